#!/usr/bin/env bash
# Trains on a TPU slice: makes the slice, sets up all of its hosts, trains, and starts over when
# the slice is taken away.
#
#   TPU=arnet ZONE=us-east5-b TYPE=v6e-16 launch/tpu_vm.sh \
#       --config=activitynet --workdir=gs://BUCKET/run \
#       --config.data.data_dir=/mnt/data [any other flag of `arnet train`]
#
# Edit: the variables below, or set them in the environment. SOURCE is what pip installs on the
# hosts: a git address of this repository or a package file they can read. Needs `gcloud`, logged
# in, on the machine this runs on; that machine has to stay up (a small VM, or tmux). The work
# directory must be a bucket that the slice may write to; the data is read from a folder of each
# host, such as a bucket mounted with gcsfuse. JAX learns from the TPU's metadata who the processes
# are.
#
# On preemption: a spot slice gets SIGTERM shortly before it is taken; the processes save the
# present step and end with status 75. Whether or not there was time for that, this script deletes
# the slice, waits until there is a new one, and trains on from the newest checkpoint. A failure
# on a slice that is still there is final. A slice is left running at the end: delete it with
#   gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE"
set -uo pipefail

: "${TPU:=arnet}"
: "${ZONE:=us-east5-b}"
: "${TYPE:=v6e-16}"
: "${VERSION:=v2-alpha-tpuv6e}"
: "${SPOT:=yes}"
: "${SOURCE:=git+https://github.com/OWNER/REPOSITORY}"
: "${RETRY_SECONDS:=60}"

if (($# == 0)); then
  sed -n '2,7p' "$0" >&2
  exit 2
fi

vm() {
  local verb=$1
  shift
  gcloud compute tpus tpu-vm "$verb" "$TPU" --zone="$ZONE" "$@"
}

on_all_hosts() {
  vm ssh --worker=all --command="$1"
}

state() {
  vm describe --format='value(state)' 2>/dev/null
}

make_slice() {
  local spot=()
  if [[ $SPOT == yes ]]; then
    spot=(--spot)
  fi
  until [[ $(state) == READY ]]; do
    case $(state) in
      CREATING | STARTING | RESTARTING | REPAIRING) ;;
      "") vm create --accelerator-type="$TYPE" --version="$VERSION" "${spot[@]}" ;;
      *) vm delete --quiet ;;
    esac
    [[ $(state) == READY ]] || sleep "$RETRY_SECONDS"
  done
}

printf -v arguments '%q ' "$@"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

while true; do
  make_slice
  if on_all_hosts "python3 -m venv --upgrade-deps arnet_env && \
      arnet_env/bin/pip install -q 'jax[tpu]' gcsfs '$SOURCE'"; then
    # The status is printed, because gcloud has one status for all hosts.
    on_all_hosts "arnet_env/bin/arnet train $arguments; status=\$?; \
        echo \"arnet ended with status \$status\"; exit \$status" 2>&1 | tee "$log"
    if ((PIPESTATUS[0] == 0)); then
      exit 0
    fi
  fi
  if ! grep -q 'arnet ended with status 75' "$log" && [[ $(state) == READY ]]; then
    echo "training failed on a slice that is still there; see above" >&2
    exit 1
  fi
  echo "the slice was taken away; waiting for another one" >&2
  vm delete --quiet
  : >"$log"
done
