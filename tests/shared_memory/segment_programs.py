"""Programs that make segments, and programs that attach to them."""

CREATE_OURS = """
from onecopy.multiprocessing.shared_memory import SharedMemory
shm = SharedMemory({!r}, create=True, size=10)
{}
print("ready", flush=True)
sys.stdout.close()
signal.pause()
"""


ATTACH = """
import sys
from multiprocessing import resource_tracker, shared_memory
shm = shared_memory.SharedMemory(sys.argv[1])
resource_tracker.unregister(shm._name, "shared_memory")
print(shm.size, bytes(shm.buf[:5]).decode())
shm.buf[:5] = b"plain"
shm.close()
"""
CREATE = """
import sys
from multiprocessing import shared_memory
shm = shared_memory.SharedMemory(sys.argv[1], create=True, size=100)
shm.buf[:5] = b"plain"
print("ready", flush=True)
sys.stdin.readline()
assert bytes(shm.buf[:4]) == b"ours"
shm.close()
shm.unlink()
"""
