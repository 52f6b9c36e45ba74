"""A roll call before a job's processes join, so that one that never comes is named.

JAX's runtime waits for all processes as well, but when some do not come in time it ends the
process without saying which. So the first process answers on the coordinator's port first, and
hands the port over once all are there.
"""

import contextlib
import socket
import time

from ar_net_jax.errors import UserError

_GO = "go"
_RETRY_SECONDS = 0.2


def call_roll(address: str, num_processes: int, process_id: int, timeout: float) -> None:
    """Returns once all processes of the job have called this.

    Args:
        address: host:port of the first process.
        num_processes: how many there are.
        process_id: which one this is.
        timeout: seconds to wait.

    Raises:
        UserError: not all came in time, naming those that are missing; or two have the same id,
            or do not agree on how many they are.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={address}: give the first process's host:port")
    deadline = time.monotonic() + timeout
    if process_id == 0:
        _gather(int(port), num_processes, deadline, timeout)
    else:
        _report(host, int(port), num_processes, process_id, deadline, timeout)


def _gather(port: int, num_processes: int, deadline: float, timeout: float) -> None:
    """The first process: waits for the others, and tells them how it went."""
    present = {0}
    connections = []
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(_listen(port))
        except OSError as error:
            raise UserError(
                f"--coordinator: port {port} of this machine cannot be used ({error.strerror}); "
                "choose another one, the same for all processes"
            ) from None
        fault = None
        while len(present) < num_processes and fault is None:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                connection = stack.enter_context(server.accept()[0])
            except TimeoutError:
                fault = _missing(present, num_processes, timeout)
                break
            connections.append(connection)
            fault = _admit(connection, present, num_processes)
        for connection in connections:
            # One that has gone away meanwhile shows itself when the job joins.
            with contextlib.suppress(OSError):
                connection.sendall(((fault or _GO) + "\n").encode())
    if fault is not None:
        raise UserError(fault)


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    return socket.create_server(("", port), backlog=1024)


def _admit(connection: socket.socket, present: set[int], num_processes: int) -> str | None:
    """Notes who has come; returns what is wrong, if anything. A stranger is left out."""
    connection.settimeout(5)
    try:
        words = connection.makefile().readline().split()
    except (OSError, UnicodeDecodeError):
        return None
    if len(words) != 3 or words[0] != "arnet" or not (words[1] + words[2]).isdigit():
        return None
    process_id, count = int(words[1]), int(words[2])
    duplicate = process_id in present
    present.add(process_id)
    if count != num_processes:
        return f"process 0 was told of {num_processes} processes, process {process_id} of {count}"
    if duplicate:
        return f"two processes were both told that they are process {process_id}"
    return None


def _report(
    host: str, port: int, num_processes: int, process_id: int, deadline: float, timeout: float
) -> None:
    """Any other process: tells the first that it is there, and waits for its word."""
    while True:
        left = max(deadline - time.monotonic(), 0.001)
        try:
            with socket.create_connection((host, port), timeout=left) as connection:
                connection.sendall(f"arnet {process_id} {num_processes}\n".encode())
                # The first process gives up by itself; this is for one that hangs.
                connection.settimeout(left + 10)
                answer = connection.makefile().readline().strip()
        except OSError:
            answer = ""
        if answer == _GO:
            return
        if answer:
            raise UserError(answer)
        if time.monotonic() > deadline:
            raise UserError(
                f"process 0 of {num_processes} did not answer at {host}:{port} within "
                f"{timeout:.0f} s; see whether it runs and can be reached from here"
            )
        time.sleep(_RETRY_SECONDS)


def _missing(present: set[int], num_processes: int, timeout: float) -> str:
    missing = [i for i in range(num_processes) if i not in present]
    names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
    which = f"processes {names}" if len(missing) > 1 else f"process {names}"
    return (
        f"{which} of {num_processes} did not join within {timeout:.0f} s; see whether "
        f"{'they run' if len(missing) > 1 else 'it runs'} and can reach process 0"
    )
