"""A barrier before a job's processes start JAX's runtime; it names the processes that are missing.

JAX's runtime waits for all processes as well, but when some do not arrive in time it ends the
process without saying which. So process 0 first listens on the coordinator's port itself, and frees
the port for JAX once all have arrived.
"""

import contextlib
import socket
import time

from ar_net_jax.errors import UserError

_RELEASED = "go"
_RETRY_SECONDS = 0.2


def wait_at_barrier(address: str, num_processes: int, process_id: int, timeout: float) -> None:
    """Returns once all processes of the job have called this.

    Args:
        address: host:port of process 0.
        num_processes: size of the job.
        process_id: rank of this process, from 0.
        timeout: seconds to wait for the others.

    Raises:
        UserError: some did not arrive in time, in which case they are named; or two have the same
            id; or they were given different numbers of processes.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator={address}: give the first process's host:port")
    deadline = time.monotonic() + timeout
    if process_id == 0:
        _coordinate(int(port), num_processes, deadline, timeout)
    else:
        _arrive(host, int(port), num_processes, process_id, deadline, timeout)


def _coordinate(port: int, num_processes: int, deadline: float, timeout: float) -> None:
    """Process 0: waits for the others, and answers all of them alike."""
    arrived = {0}
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
        while len(arrived) < num_processes and fault is None:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                connection = stack.enter_context(server.accept()[0])
            except TimeoutError:
                fault = _missing(arrived, num_processes, timeout)
                break
            connections.append(connection)
            fault = _register(connection, arrived, num_processes)
        for connection in connections:
            # A process that has ended meanwhile is noticed by JAX's runtime.
            with contextlib.suppress(OSError):
                connection.sendall(((fault or _RELEASED) + "\n").encode())
    if fault is not None:
        raise UserError(fault)


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    return socket.create_server(("", port), backlog=1024)


def _register(connection: socket.socket, arrived: set[int], num_processes: int) -> str | None:
    """Adds the process that has connected; returns what is wrong with it, if anything.

    Whatever else connects to the port, such as a scanner, is ignored.
    """
    connection.settimeout(5)
    try:
        words = connection.makefile().readline().split()
    except (OSError, UnicodeDecodeError):
        return None
    if len(words) != 3 or words[0] != "arnet" or not (words[1] + words[2]).isdigit():
        return None
    process_id, count = int(words[1]), int(words[2])
    duplicate = process_id in arrived
    arrived.add(process_id)
    if count != num_processes:
        return f"process 0 was told of {num_processes} processes, process {process_id} of {count}"
    if duplicate:
        return f"two processes were both told that they are process {process_id}"
    return None


def _arrive(
    host: str, port: int, num_processes: int, process_id: int, deadline: float, timeout: float
) -> None:
    """Any other process: registers with process 0, and waits for its answer."""
    while True:
        left = max(deadline - time.monotonic(), 0.001)
        try:
            with socket.create_connection((host, port), timeout=left) as connection:
                connection.sendall(f"arnet {process_id} {num_processes}\n".encode())
                # Process 0 gives up at its own deadline; this is for one that hangs.
                connection.settimeout(left + 10)
                answer = connection.makefile().readline().strip()
        except OSError:
            answer = ""
        if answer == _RELEASED:
            return
        if answer:
            raise UserError(answer)
        if time.monotonic() > deadline:
            raise UserError(
                f"process 0 of {num_processes} did not answer at {host}:{port} within "
                f"{timeout:.0f} s; see whether it runs and can be reached from here"
            )
        time.sleep(_RETRY_SECONDS)


def _missing(arrived: set[int], num_processes: int, timeout: float) -> str:
    missing = [i for i in range(num_processes) if i not in arrived]
    names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
    which = f"processes {names}" if len(missing) > 1 else f"process {names}"
    return (
        f"{which} of {num_processes} did not join within {timeout:.0f} s; see whether "
        f"{'they run' if len(missing) > 1 else 'it runs'} and can reach process 0"
    )
