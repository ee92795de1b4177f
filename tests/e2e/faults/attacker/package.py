"""A model that attacks what is around it. Each row names an attack and what it is aimed at; the
answer tells, as JSON, what came of each of its tries: `done`, or how it was refused."""

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

import pandas as pd

libc = ctypes.CDLL(None, use_errno=True)


def tried(act, *args) -> str:
    """What became of one try."""
    try:
        act(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, repr(error))
    except Exception as error:
        return repr(error)
    return "done"


def called(number: int, *args) -> str:
    """What became of a system call, made past the C library. Numbers are those of x86-64."""
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in args]) >= 0:
        return "done"
    return errno.errorcode[ctypes.get_errno()]


def refused_below_zero(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def in_child(act) -> str:
    """What became of what may end the process that tries it."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if tried(act) == "done" else 1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return "done" if os.WEXITSTATUS(status) == 0 else "refused"


# === what is tried ===


def network(aim: dict) -> dict:
    """Reaching anything over any kind of socket."""

    def connect(family, address):
        with socket.socket(family) as one:
            one.settimeout(3)
            one.connect(address)

    def send(address):
        with socket.socket(type=socket.SOCK_DGRAM) as one:
            one.sendto(b"hello", tuple(address))

    def listens():
        """The probe itself works: what listens inside is reached."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            connect(socket.AF_INET, server.getsockname())

    def lower_loopback():
        import fcntl

        with socket.socket(type=socket.SOCK_DGRAM) as one:
            fcntl.ioctl(one, 0x8914, struct.pack("16sH14x", b"lo", 0))

    found = {"control": tried(listens), "lower the loopback": tried(lower_loopback)}
    for address in aim["tcp"]:
        found[f"tcp {address}"] = tried(connect, socket.AF_INET, tuple(address))
    for address in aim["udp"]:
        found[f"udp {address}"] = tried(send, address)
    for path in aim["unix"]:
        found[f"unix {path}"] = tried(connect, socket.AF_UNIX, path)
    found["abstract"] = tried(connect, socket.AF_UNIX, "\0" + aim["abstract"])
    found["name"] = tried(lambda: socket.getaddrinfo("example.com", 80))
    for name, family, kind, protocol in [
        ("raw", socket.AF_INET, socket.SOCK_RAW, 1),
        ("packet", 17, socket.SOCK_RAW, 0x300),
        ("netlink audit", 16, socket.SOCK_RAW, 9),
        ("netlink netfilter", 16, socket.SOCK_RAW, 12),
        ("netlink uevent", 16, socket.SOCK_RAW, 15),
        ("vsock", 40, socket.SOCK_STREAM, 0),
        ("alg", 38, socket.SOCK_SEQPACKET, 0),
        ("bluetooth", 31, socket.SOCK_RAW, 1),
        ("xdp", 44, socket.SOCK_RAW, 0),
    ]:
        found[name] = tried(socket.socket, family, kind, protocol)
    return found


def reading(aim: dict) -> dict:
    """Reading what is the host's, the server's or another model's, by every way to name it."""
    found = {}
    ways = ["", "/proc/1/root", "/proc/self/root", "/proc/self/cwd/../../.."]
    ways += [f"/proc/self/fd/{fd}/../../../../.." for fd in os.listdir("/proc/self/fd")]
    ways += ["/opt/luthier/package/../../..", "/run/luthier/../.."]
    for path in aim["secret"]:
        for way in ways:
            found[f"{way}{path}"] = tried(open, way + path, "rb")
        link = f"/tmp/link-{time.monotonic_ns()}"
        os.symlink(path, link)
        found[f"link to {path}"] = tried(open, link, "rb")
    for pid in aim["pids"]:
        for name in ("environ", "maps", "cwd/.", "root/etc/hostname", "mem"):
            found[f"/proc/{pid}/{name}"] = tried(open, f"/proc/{pid}/{name}", "rb")
    # Masked, which may be an empty file.
    for path in ("/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/timer_list", "/proc/kmsg"):
        found[path] = tried(open(path, "rb").read, 1) if os.access(path, os.R_OK) else "absent"
        if found[path] == "done" and open(path, "rb").read(1) == b"":
            found[path] = "empty"
    for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/fuse", "/dev/kvm"):
        found[path] = tried(open, path, "rb")
    for name, mode, device in [("disk", stat.S_IFBLK, 0xFE00), ("memory", stat.S_IFCHR, 0x101)]:
        found[f"make {name}"] = tried(os.mknod, f"/tmp/{name}", mode | 0o666, device)
    return found


def writing(aim: dict) -> dict:
    """Writing anywhere but to scratch, and to anything that is there."""

    def create(directory):
        with open(os.path.join(directory, "planted"), "w") as file:
            file.write("x")

    def change(path):
        with open(path, "r+b") as file:
            file.write(file.read(1) or b"x")

    def through_link(target):
        link = f"/tmp/way-{time.monotonic_ns()}"
        os.symlink(target, link)
        create(link)

    layers = ["/opt/luthier/" + name for name in ("package", "env", "runner", "config", "python")]
    places = ["/", "/etc", "/usr/lib", "/usr/bin", "/var", "/root", "/home", "/run", "/sys", "/dev"]
    places += [*layers, "/run/luthier", "/proc", "/proc/self", "/sys/fs/cgroup"]
    found = {"control": tried(create, "/tmp")}
    found.update({f"in {place}": tried(create, place) for place in places})
    found.update({f"by a link in {place}": tried(through_link, place) for place in layers})
    for path in (
        "/opt/luthier/config/runner.json",
        "/opt/luthier/package/package.py",
        "/etc/passwd",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sysrq-trigger",
        "/proc/self/uid_map",
        "/proc/self/setgroups",
    ):
        found[f"change {path}"] = tried(change, path)
        found[f"open up {path}"] = tried(os.chmod, path, 0o777)
    for path in aim["paths"]:
        found[f"on the host: {path}"] = tried(create, path)
    found["replace the socket"] = tried(os.symlink, aim["paths"][0], "/run/luthier/runner.sock")

    def spare_me():
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")

    found["be spared"] = tried(spare_me)
    # The kernel's own word: nothing is writable but memory of one's own.
    for line in open("/proc/self/mountinfo"):
        left, right = line.split(" - ")
        point, options = left.split(" ")[4:6]
        scratch = (point, right.split(" ")[0]) in [
            ("/proc", "proc"),
            *((own, "tmpfs") for own in ("/dev", "/dev/shm", "/tmp")),
        ]
        device = point.startswith("/dev/") or right.startswith(("devtmpfs", "tmpfs tmpfs"))
        masked = point.startswith("/proc/") and not os.path.isdir(point)
        if "rw" in options.split(",") and not (scratch or masked or (device and point != "/")):
            found[f"mounted writable: {point} ({right.split()[0]})"] = "done"
    return found


def processes(aim: dict) -> dict:
    """Signals to, and looks into, processes of others."""
    found = {"control": tried(os.kill, os.getpid(), 0)}
    for pid in aim["pids"]:
        found[f"signal {pid}"] = tried(os.kill, pid, 0)
        found[f"see {pid}"] = tried(os.stat, f"/proc/{pid}")
    for pid in (1, os.getpid()):
        found[f"attach to {pid}"] = called(101, 16, pid, 0, 0)
        found[f"read memory of {pid}"] = called(310, pid, 0, 0, 0, 0, 0)
        found[f"write memory of {pid}"] = called(311, pid, 0, 0, 0, 0, 0)
    found["be traced"] = called(101, 0, 0, 0, 0)
    found["take a descriptor"] = called(438, os.pidfd_open(os.getpid()), 0, 0)
    found["compare"] = called(312, 1, 1, 0, 0, 0)
    found["more files"] = tried(
        resource.setrlimit, resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)
    )
    found["be preferred"] = tried(os.nice, -5)
    found["be real-time"] = tried(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
    many = len([name for name in os.listdir("/proc") if name.isdigit()])
    found["processes of others in /proc"] = "done" if many > 3 else "none"
    return found


# Calls that must not be had, with arguments that would do no harm where they are.
CALLS = {
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "chroot": (161, 0),
    "open_tree": (428, -100, 0, 0),
    "move_mount": (429, 0, 0, 0, 0, 0),
    "fsopen": (430, 0, 0),
    "mount_setattr": (442, -100, 0, 0, 0, 0),
    "unshare user": (272, 0x10000000),
    "unshare mount": (272, 0x20000),
    "unshare network": (272, 0x40000000),
    "setns": (308, 0, 0),
    "clone3": (435, 0, 0),
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, 0, 0, 0),
    "delete_module": (176, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "kexec_file_load": (320, 0, 0, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "swapon": (167, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "keyctl": (250, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "io_uring_enter": (426, 0, 0, 0, 0, 0),
    "userfaultfd": (323, 0),
    "open_by_handle_at": (304, 0, 0, 0),
    "name_to_handle_at": (303, 0, 0, 0, 0, 0),
    "clock_settime": (227, 0, 0),
    "settimeofday": (164, 0, 0),
    "adjtimex": (159, 0),
    "sethostname": (170, 0, 0),
    "setdomainname": (171, 0, 0),
    "iopl": (172, 3),
    "ioperm": (173, 0, 1, 1),
    "acct": (163, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "syslog": (103, 3, 0, 0),
    "fanotify_init": (300, 0, 0),
    "move_pages": (279, 1, 0, 0, 0, 0, 0),
    "migrate_pages": (256, 1, 0, 0, 0),
    "modify_ldt": (154, 0, 0, 0),
    "personality": (135, 0x0040000),
    "lookup_dcookie": (212, 0, 0, 0),
    "nfsservctl": (180, 0, 0, 0),
    "uselib": (134, 0),
    "ustat": (136, 0, 0),
    "vhangup": (153,),
}


def kernel(aim: dict) -> dict:
    """Calls that change the machine or open the kernel's attack surface."""
    found = {"control": called(39)}
    found.update({name: called(*call) for name, call in CALLS.items()})
    # In a child, since where it is had it makes a process.
    found["clone into a user namespace"] = in_child(
        lambda: refused_below_zero(libc.syscall(ctypes.c_long(56), 0x10000000 | 17, 0, 0, 0, 0))
    )

    def in_32_bit():
        """`getpid` of the other calling convention, which a filter may have forgotten."""
        code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        ctypes.CFUNCTYPE(ctypes.c_int)(address)()

    def in_x32():
        refused_below_zero(libc.syscall(ctypes.c_long(0x40000000 | 39)))

    found["32-bit calls"] = in_child(in_32_bit)
    found["x32 calls"] = in_child(in_x32)
    return found


def privileges(aim: dict) -> dict:
    """Becoming somebody else."""
    found = {
        "be root": tried(os.setuid, 0),
        "be root for real": tried(os.setresuid, 0, 0, 0),
        "be root's group": tried(os.setgid, 0),
        "have groups": tried(os.setgroups, [0]),
    }
    libc.setfsuid(0)
    # It tells nothing but who one was before.
    found["be root for files"] = "done" if libc.setfsuid(-1) == 0 else "EPERM"
    status = open("/proc/self/status").read()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        value = status.split(f"{name}:")[1].split()[0]
        found[name] = "none" if int(value, 16) == 0 else "done"
    found["new privileges"] = "none" if "NoNewPrivs:\t1" in status else "done"
    found["no filter"] = "none" if "Seccomp:\t2" in status else "done"
    for directory in ("/bin", "/usr/bin", "/usr/sbin", "/usr/lib"):
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            try:
                mode = os.stat(path).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) and mode & stat.S_ISUID:
                # Runs as the caller all the same.
                ran = subprocess.run(
                    [path, "-c", "id -u"], stdin=subprocess.DEVNULL, capture_output=True, timeout=9
                )
                found[f"run {path}"] = "done" if ran.stdout.strip() == b"0" else "as oneself"
    # A program of one's own with the bit set, on the one place that can be written.
    subprocess.run(["cp", "/usr/bin/id", "/tmp/id"], check=True)
    os.chmod("/tmp/id", 0o6755)
    ran = subprocess.run(["/tmp/id", "-u"], capture_output=True)
    found["own program"] = "done" if ran.stdout.strip() == b"0" else "as oneself"
    return found


def listener() -> socket.socket:
    """The socket on which the runner listens."""
    for fd in os.listdir("/proc/self/fd"):
        try:
            one = socket.socket(fileno=os.dup(int(fd)))
        except OSError:
            continue
        if one.family == socket.AF_UNIX and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return one
    raise LookupError("no listener")


def impostor(aim: dict) -> dict:
    """Takes the runner's place: from now on another program answers on its socket."""
    taken = listener()
    taken.set_inheritable(True)
    program = os.path.join(os.path.dirname(__file__), "impostor.py")
    os.execv(sys.executable, [sys.executable, program, str(taken.fileno())])


ATTACKS = {
    attack.__name__: attack
    for attack in (network, reading, writing, processes, kernel, privileges, impostor)
}


class Model:
    def predict(self, df):
        answers = []
        for name, aim in zip(df["attack"], df["aim"]):
            attack = ATTACKS.get(name)
            answers.append(json.dumps(attack(json.loads(aim)) if attack else {}))
        return pd.DataFrame({"answer": answers})


def get_model():
    return Model()
