#!/usr/bin/env bash
# Trains with N processes on this machine, to try on one machine what runs on many.
#
#   launch/local.sh N --config=demo --workdir=RUN [any other flag of `arnet train`]
#
# Edit: nothing. By default the processes compute on the CPU and reduce over gloo. DEVICES=4 gives
# each of them four pretended devices; JAX_PLATFORMS=cuda takes GPUs, which the processes have to
# share out among them by CUDA_VISIBLE_DEVICES.
#
# On preemption: SIGTERM or Ctrl-C is passed on to all processes. On SIGTERM they save the present
# step and end with status 75, which is then also that of this script; the same command goes on
# from there. If one process fails, the others, which would wait for it, are killed and its status
# is returned. Needs bash 5.1.
set -uo pipefail

if [[ $# -lt 1 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,4p' "$0" >&2
  exit 2
fi
processes=$1
shift

export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
if [[ -n "${DEVICES:-}" ]]; then
  export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$DEVICES"
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

pids=()
pass_on() {
  kill "-$1" "${pids[@]}" 2>/dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

for ((i = 0; i < processes; i++)); do
  arnet train "--coordinator=127.0.0.1:$port" "--num-processes=$processes" "--process-id=$i" "$@" \
    > >(sed -u "s/^/[$i] /") 2>&1 &
  pids+=($!)
done

status=0
left=("${pids[@]}")
while ((${#left[@]})); do
  wait -n -p ended "${left[@]}"
  code=$?
  # A signal interrupts the wait without any process having ended.
  [[ -n "${ended:-}" ]] || continue
  remaining=()
  for pid in "${left[@]}"; do
    [[ $pid == "$ended" ]] || remaining+=("$pid")
  done
  left=("${remaining[@]+"${remaining[@]}"}")
  # The first failure is the cause; what the others end with follows from it.
  if ((code != 0 && status == 0)); then
    status=$code
    if ((code != 75)); then
      pass_on KILL
    fi
  fi
done
exit "$status"
