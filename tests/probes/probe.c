/*
 * probe NAME [ARG...]: tries one thing that a sandbox must or must not let happen, and says what came of it.
 *
 * Prints one line: `NAME: OK`, `NAME: ERRNO` (as `NAME: EPERM`), `NAME: SIGNAL` (as `NAME: SIGSYS`), or for the probes
 * that look at something `NAME: what was seen`. Exit status 0 whatever it is, 2 for a name or arguments it does not know.
 *
 * Made to be run twice, with the results in table.toml: outside as root, where the call must get through, or the probe
 * proves nothing; and inside. So that it harms nothing outside, a dangerous call is given a pointer, descriptor or
 * number that the kernel refuses only after it has let the call in: EFAULT, EBADF and EINVAL mean "got through".
 *
 * Each probe runs in a child, so that a deadly one is reported. One static program: it needs nothing of the root it
 * finds itself in. x86_64 Linux.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Not mapped in any process: the lowest page is kept free. */
#define BAD ((char *)1)
/* Lies above the 32 bits that the kernel reads of an int argument. */
#define HIGH (1UL << 32)

/* Calls and constants that a C library's headers may lack. Source: the kernel's asm/unistd_64.h and uapi headers. */
enum {
	NR_x32 = 0x40000000, NR_unknown = 600,
	NR_kexec_file_load = 320, NR_userfaultfd = 323, NR_pidfd_getfd = 438, NR_open_tree = 428, NR_move_mount = 429,
	NR_fsopen = 430, NR_fsconfig = 431, NR_clone3 = 435, NR_io_uring_setup = 425, NR_process_madvise = 440,
	NR_mount_setattr = 442, NR_memfd_secret = 447,
};
enum { KEYCTL_JOIN = 1, CLONE3_SIZE = 64, SECCOMP_FILTER = 1, SECCOMP_LISTENER = 8, HUGE_127 = 63 << 26 };
enum { FAMILY_CAN = 29, FAMILY_TIPC = 30, FAMILY_BLUETOOTH = 31, FAMILY_ALG = 38, FAMILY_VSOCK = 40, FAMILY_KCM = 41,
       FAMILY_QIPCRTR = 42, FAMILY_SMC = 43, FAMILY_XDP = 44, FAMILY_RDS = 21 };

static const char *self; /* the probe's name, before the colon */
static char **arg;       /* its arguments, NULL at the end */

/* The outcome of a call that gives -1 for failure. */
static void say(long result)
{
	printf("%s: %s\n", self, result == -1 ? strerrorname_np(errno) : "OK");
}

/* The outcome of an open: the descriptor is of no use. */
static void say_open(int fd)
{
	say(fd);
	if (fd >= 0)
		close(fd);
}

/* ---- one system call each ---- */

static void p_chroot(void) { say(chroot(BAD)); }
static void p_mount(void) { say(syscall(SYS_mount, BAD, BAD, BAD, 0, 0)); }
static void p_umount(void) { say(syscall(SYS_umount2, BAD, 0)); }
static void p_pivot_root(void) { say(syscall(SYS_pivot_root, BAD, BAD)); }
static void p_unshare_user(void) { say(unshare(CLONE_NEWUSER)); }
static void p_unshare_mount(void) { say(unshare(CLONE_NEWNS)); }
static void p_unshare_net(void) { say(unshare(CLONE_NEWNET)); }
static void p_setns(void) { say(setns(-1, 0)); }
static void p_unknown(void) { say(syscall(NR_unknown)); }
static void p_x32(void) { say(syscall(NR_x32 + SYS_getpid)); }
static void p_clone3(void) { say(syscall(NR_clone3, BAD, CLONE3_SIZE)); }

/* A child that ends at once, made with these raw flags. */
static void raw_clone(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	say(pid);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
}
static void p_clone_newuser(void) { raw_clone(CLONE_NEWUSER); }
static void p_clone_newuser_high(void) { raw_clone(CLONE_NEWUSER | HIGH); }
static void p_clone_newnet(void) { raw_clone(CLONE_NEWNET); }
static void p_clone3_newuser(void)
{
	/* struct clone_args: flags first, the exit signal fifth. */
	uint64_t args[CLONE3_SIZE / 8] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
	long pid = syscall(NR_clone3, args, sizeof args);
	if (pid == 0)
		_exit(0);
	say(pid);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
}

static void p_int80(void)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "0"(20L /* getpid */) : "memory", "r8", "r9", "r10", "r11");
	errno = (int)-result;
	say(result < 0 ? -1 : 0);
}

static void p_ptrace_traceme(void) { say(ptrace(PTRACE_TRACEME, 0, 0, 0)); }
/* PTRACE_SEIZE wants 0 as address: EIO once the call is let in and the process found. */
static void p_ptrace_attach_1(void) { say(ptrace(PTRACE_SEIZE, 1, BAD, 0)); }
static void p_vm_readv_1(void) { say(syscall(SYS_process_vm_readv, 1, BAD, 1, BAD, 1, 0)); }
static void p_vm_writev_1(void) { say(syscall(SYS_process_vm_writev, 1, BAD, 1, BAD, 1, 0)); }
static void p_process_madvise(void) { say(syscall(NR_process_madvise, -1, BAD, 1, 0, 0)); }
static void p_pidfd_getfd(void) { say(syscall(NR_pidfd_getfd, -1, 0, 0)); }
static void p_kcmp(void) { say(syscall(SYS_kcmp, getpid(), getpid(), 99, 0, 0)); }
static void p_bpf(void) { say(syscall(SYS_bpf, 0, BAD, 32)); }
static void p_perf(void) { say(syscall(SYS_perf_event_open, BAD, 0, -1, -1, 0)); }
static void p_userfaultfd(void) { say(syscall(NR_userfaultfd, O_CLOEXEC)); }
static void p_io_uring(void) { say(syscall(NR_io_uring_setup, 1, BAD)); }
static void p_aio(void) { say(syscall(SYS_io_setup, 1, BAD)); }
static void p_keyctl(void) { say(syscall(SYS_keyctl, KEYCTL_JOIN, BAD, 0, 0, 0)); }
static void p_add_key(void) { say(syscall(SYS_add_key, BAD, BAD, BAD, 0, 0)); }
static void p_request_key(void) { say(syscall(SYS_request_key, BAD, BAD, BAD, 0)); }
static void p_kexec_load(void) { say(syscall(SYS_kexec_load, 0, 0, 0, 0xffffUL)); }
static void p_kexec_file(void) { say(syscall(NR_kexec_file_load, -1, -1, 0, 0, 0xffffUL)); }
static void p_init_module(void) { say(syscall(SYS_init_module, BAD, 4096, BAD)); }
static void p_finit_module(void) { say(syscall(SYS_finit_module, -1, BAD, 0)); }
static void p_delete_module(void) { say(syscall(SYS_delete_module, BAD, 0)); }
static void p_reboot(void) { say(syscall(SYS_reboot, 0, 0, 0, 0)); }
static void p_swapon(void) { say(syscall(SYS_swapon, BAD, 0)); }
static void p_swapoff(void) { say(syscall(SYS_swapoff, BAD)); }
static void p_acct(void) { say(syscall(SYS_acct, BAD)); }
static void p_settimeofday(void) { say(syscall(SYS_settimeofday, BAD, 0)); }
static void p_clock_settime(void) { say(syscall(SYS_clock_settime, CLOCK_REALTIME, BAD)); }
static void p_adjtimex(void) { say(syscall(SYS_adjtimex, BAD)); }
static void p_sethostname(void) { say(syscall(SYS_sethostname, BAD, 1)); }
static void p_syslog(void) { say(syscall(SYS_syslog, 10 /* size of the buffer */, 0, 0)); }
static void p_dmesg(void) { say(syscall(SYS_syslog, 3 /* read all */, BAD, 16)); }
static void p_quotactl(void) { say(syscall(SYS_quotactl, 0x800005L << 8 /* Q_GETINFO */, BAD, 0, 0)); }
static void p_name_to_handle(void) { say(syscall(SYS_name_to_handle_at, AT_FDCWD, BAD, BAD, BAD, 0)); }
static void p_open_by_handle(void) { say(syscall(SYS_open_by_handle_at, AT_FDCWD, BAD, 0)); }
static void p_personality(void) { say(syscall(SYS_personality, 0x40000UL /* ADDR_NO_RANDOMIZE */)); }
static void p_memfd_secret(void) { say(syscall(NR_memfd_secret, 0)); }
static void p_fsopen(void) { say(syscall(NR_fsopen, BAD, 0)); }
static void p_fsconfig(void) { say(syscall(NR_fsconfig, -1, 0, 0, 0, 0)); }
static void p_open_tree(void) { say(syscall(NR_open_tree, -1, BAD, 0)); }
static void p_move_mount(void) { say(syscall(NR_move_mount, -1, BAD, -1, BAD, 0)); }
static void p_mount_setattr(void) { say(syscall(NR_mount_setattr, -1, BAD, 0, BAD, 32)); }
static void p_modify_ldt(void) { say(syscall(SYS_modify_ldt, 1, BAD, 16)); }
static void p_vmsplice(void) { say(syscall(SYS_vmsplice, -1, 0, 0, 0)); }
static void p_fanotify(void) { say(syscall(SYS_fanotify_init, 0xffffffffU, 0)); }
static void p_iopl(void) { say(syscall(SYS_iopl, 99)); }
static void p_mbind(void) { say(syscall(SYS_mbind, 0, 0, 99, 0, 0, 0)); }
static void p_sync(void) { say(syscall(SYS_sync)); }
static void p_syncfs(void) { say(syscall(SYS_syncfs, -1)); }
static void p_listener(void) { say(syscall(SYS_seccomp, SECCOMP_FILTER, SECCOMP_LISTENER, BAD)); }
static void p_mergeable(void) { say(syscall(SYS_madvise, BAD, 4096, 12)); }
static void p_hugetlb(void)
{
	/* A page size of 2^63, which no processor has. */
	void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | HUGE_127, -1, 0);
	say(at == MAP_FAILED ? -1 : 0);
}
static void p_memfd_hugetlb(void) { say(syscall(SYS_memfd_create, BAD, 4 /* MFD_HUGETLB */)); }
static void p_shm_hugetlb(void) { say(syscall(SYS_shmget, 0 /* IPC_PRIVATE */, 0, 04000 /* SHM_HUGETLB */ | 0600)); }
static void p_prlimit_1(void)
{
	struct rlimit limit = { 1, 0 }; /* soft above hard */
	say(syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, &limit, NULL));
}
static void p_sched_rt(void)
{
	struct sched_param lowest = { 1 };
	say(sched_setscheduler(0, SCHED_FIFO, &lowest));
}

/* ---- becoming somebody ---- */

static void p_setuid0(void) { say(syscall(SYS_setuid, 0)); }
static void p_setgid0(void) { say(syscall(SYS_setgid, 0)); }
static void p_setresuid0(void) { say(syscall(SYS_setresuid, 0, 0, 0)); }
static void p_setgroups(void)
{
	gid_t root = 0;
	say(syscall(SYS_setgroups, 1, &root));
}
/* Asks for CAP_SYS_ADMIN beside what is there. */
static void p_capset(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2];
	if (syscall(SYS_capget, &head, sets) == 0) {
		sets[0].permitted |= 1U << CAP_SYS_ADMIN;
		sets[0].effective |= 1U << CAP_SYS_ADMIN;
	}
	say(syscall(SYS_capset, &head, sets));
}

/* Runs `path` as an ordinary user and prints the effective uid that it got. */
static void p_setuid_exec(void)
{
	const char *path = arg[0] ? arg[0] : "/usr/bin/su";
	int failed[2], input[2];
	if (pipe2(failed, O_CLOEXEC) == -1 || pipe2(input, O_CLOEXEC) == -1) {
		say(-1);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		dup2(input[0], 0); /* waits there for a password */
		dup2(open("/dev/null", O_WRONLY), 1);
		dup2(1, 2);
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) == -1)
			_exit(1);
		execl(path, path, (char *)NULL);
		int code = errno;
		_exit(write(failed[1], &code, sizeof code) < 0);
	}
	close(failed[1]);
	int code = 0;
	if (pid > 0 && read(failed[0], &code, sizeof code) == sizeof code) {
		errno = code;
		say(-1);
	} else if (pid > 0) {
		char name[64], line[256];
		unsigned effective = ~0U;
		snprintf(name, sizeof name, "/proc/%d/status", pid);
		FILE *status = fopen(name, "r");
		while (status && fgets(line, sizeof line, status))
			sscanf(line, "Uid: %*u %u", &effective);
		printf("%s: %d\n", self, (int)effective);
	} else {
		say(-1);
	}
	if (pid > 0) {
		kill(pid, SIGKILL); /* EPERM where it became root: it ends with its input */
		close(input[1]);
		waitpid(pid, NULL, 0);
	}
}

/* ---- sockets ---- */

static void say_socket(unsigned long family, unsigned long type, unsigned long protocol)
{
	say_open((int)syscall(SYS_socket, family, type, protocol));
}
static void p_unix(void) { say_socket(AF_UNIX, SOCK_STREAM, 0); }
static void p_inet(void) { say_socket(AF_INET, SOCK_STREAM, 0); }
static void p_inet6(void) { say_socket(AF_INET6, SOCK_STREAM, 0); }
static void p_udp(void) { say_socket(AF_INET, SOCK_DGRAM, 0); }
static void p_route(void) { say_socket(AF_NETLINK, SOCK_RAW, 0); }
static void p_audit(void) { say_socket(AF_NETLINK, SOCK_RAW, 9); }
static void p_audit_high(void) { say_socket(AF_NETLINK | HIGH, SOCK_RAW, 9 | HIGH); }
static void p_netfilter(void) { say_socket(AF_NETLINK, SOCK_RAW, 12); }
static void p_xfrm(void) { say_socket(AF_NETLINK, SOCK_RAW, 6); }
static void p_uevent(void) { say_socket(AF_NETLINK, SOCK_RAW, 15); }
static void p_diag(void) { say_socket(AF_NETLINK, SOCK_RAW, 4); }
static void p_packet(void) { say_socket(AF_PACKET, SOCK_RAW, 0); }
static void p_raw(void) { say_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static void p_ping(void) { say_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP); }
static void p_sctp(void) { say_socket(AF_INET, SOCK_STREAM, 132); }
static void p_mptcp(void) { say_socket(AF_INET, SOCK_STREAM, 262); }
static void p_vsock(void) { say_socket(FAMILY_VSOCK, SOCK_STREAM, 0); }
static void p_vsock_high(void) { say_socket(FAMILY_VSOCK | HIGH, SOCK_STREAM, 0); }
static void p_alg(void) { say_socket(FAMILY_ALG, SOCK_SEQPACKET, 0); }
static void p_can(void) { say_socket(FAMILY_CAN, SOCK_RAW, 1); }
static void p_bluetooth(void) { say_socket(FAMILY_BLUETOOTH, SOCK_RAW, 1); }
static void p_tipc(void) { say_socket(FAMILY_TIPC, SOCK_SEQPACKET, 0); }
static void p_rds(void) { say_socket(FAMILY_RDS, SOCK_SEQPACKET, 0); }
static void p_smc(void) { say_socket(FAMILY_SMC, SOCK_STREAM, 0); }
static void p_xdp(void) { say_socket(FAMILY_XDP, SOCK_RAW, 0); }
static void p_kcm(void) { say_socket(FAMILY_KCM, SOCK_DGRAM, 0); }
static void p_qipcrtr(void) { say_socket(FAMILY_QIPCRTR, SOCK_DGRAM, 0); }

static void connect_unix(const char *path, int abstract)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t room = sizeof to.sun_path - 1, length = strlen(path);
	if (length > room)
		length = room;
	memcpy(to.sun_path + abstract, path, length);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract + length);
	say(fd == -1 ? -1 : connect(fd, (struct sockaddr *)&to, size));
}
static void p_connect_abstract(void) { connect_unix(arg[0], 1); }
static void p_connect_unix(void) { connect_unix(arg[0], 0); }
static void p_connect_tcp(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arg[1])) };
	struct timeval three_seconds = { 3, 0 };
	inet_pton(AF_INET, arg[0], &to.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &three_seconds, sizeof three_seconds); /* then EINPROGRESS */
	say(fd == -1 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to));
}
static void p_bind_low_port(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), result = -1;
	for (uint16_t port = 1; port < 1024 && result == -1; port++) {
		struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
		at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		result = bind(fd, (struct sockaddr *)&at, sizeof at);
		if (result == -1 && errno != EADDRINUSE)
			break;
	}
	say(result);
}

/* ---- terminals: on a pipe, which has no such request, so ENOTTY means "got through" ---- */

static void ioctl_on_pipe(unsigned long request)
{
	int ends[2];
	say(pipe(ends) == -1 ? -1 : syscall(SYS_ioctl, ends[0], request, BAD));
}
static void p_tiocsti(void) { ioctl_on_pipe(TIOCSTI); }
static void p_tiocsti_high(void) { ioctl_on_pipe(TIOCSTI | HIGH); }
static void p_tioclinux(void) { ioctl_on_pipe(TIOCLINUX); }
static void p_tiocsetd(void) { ioctl_on_pipe(TIOCSETD); }
static void p_tty_open(void) { say_open(open("/dev/tty", O_RDWR | O_CLOEXEC)); }
static void p_ptmx_open(void) { say_open(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)); }

/* ---- files ---- */

/* EMPTY: opened, but there is nothing to read, as with a masked file. */
static void p_read_file(void)
{
	char byte;
	int fd = open(arg[0], O_RDONLY | O_CLOEXEC);
	ssize_t bytes = fd == -1 ? -1 : read(fd, &byte, 1);
	if (bytes == 0)
		printf("%s: EMPTY\n", self);
	else
		say(bytes);
}
/* Writes nothing, and takes the file away if it was not there before. */
static void p_write_file(void)
{
	int there = access(arg[0], F_OK) == 0;
	int fd = open(arg[0], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	say_open(fd);
	if (fd >= 0 && !there)
		unlink(arg[0]);
}
static void p_exec_file(void)
{
	int failed[2], code;
	if (pipe2(failed, O_CLOEXEC) == -1) {
		say(-1);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execl(arg[0], arg[0], (char *)NULL);
		code = errno;
		_exit(write(failed[1], &code, sizeof code) < 0);
	}
	close(failed[1]);
	if (pid > 0 && read(failed[0], &code, sizeof code) == sizeof code) {
		errno = code;
		say(-1);
	} else {
		say(pid);
	}
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}
static void p_list_dir(void)
{
	DIR *folder = opendir(arg[0]);
	say(folder ? 0 : -1);
}
static void open_only(const char *path, int flags) { say_open(open(path, flags | O_CLOEXEC)); }
static void p_proc_1_environ(void)
{
	arg = (char *[]){ "/proc/1/environ", NULL };
	p_read_file();
}
static void p_proc_1_mem(void) { open_only("/proc/1/mem", O_RDWR); }
static void p_proc_1_exe(void) { open_only("/proc/1/exe", O_RDONLY); }
static void p_proc_1_root(void) { open_only("/proc/1/root/.", O_RDONLY | O_DIRECTORY); }
static void p_proc_1_fd(void) { open_only("/proc/1/fd", O_RDONLY | O_DIRECTORY); }
static void p_sysrq(void) { open_only("/proc/sysrq-trigger", O_WRONLY); }
static void p_core_pattern(void) { open_only("/proc/sys/kernel/core_pattern", O_WRONLY); }
static void p_kmsg(void) { open_only("/dev/kmsg", O_RDONLY | O_NONBLOCK); }
static void p_kcore(void)
{
	arg = (char *[]){ "/proc/kcore", NULL };
	p_read_file();
}
static void p_mem(void) { open_only("/dev/mem", O_RDONLY); }

static void make_node(mode_t kind, dev_t device)
{
	char name[64];
	snprintf(name, sizeof name, "/tmp/kennel-probe.%d", getpid());
	int result = mknod(name, kind | 0600, device);
	int code = errno;
	if (result == 0)
		unlink(name);
	errno = code;
	say(result);
}
static void p_mknod_char(void) { make_node(S_IFCHR, makedev(1, 1)); }
static void p_mknod_block(void) { make_node(S_IFBLK, makedev(7, 0)); }
static void p_mkfifo(void) { make_node(S_IFIFO, 0); }

static void p_mounts_flags(void)
{
	struct statvfs at;
	if (statvfs(arg[0], &at) == -1) {
		say(-1);
		return;
	}
	static const struct { unsigned long bit; const char *name; } flags[] = {
		{ ST_NOSUID, "nosuid" }, { ST_NODEV, "nodev" }, { ST_NOEXEC, "noexec" }, { ST_RDONLY, "ro" },
	};
	const char *comma = "";
	printf("%s: ", self);
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (at.f_flag & flags[i].bit) {
			printf("%s%s", comma, flags[i].name);
			comma = ",";
		}
	puts(*comma ? "" : "none");
}

/* Opens for writing, without writing: a process moves by a write. */
static void p_cgroup_escape(void)
{
	static const char *const files[] = {
		"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs",
		"/sys/fs/cgroup/memory/tasks", "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/cpu/cgroup.procs",
		"/sys/fs/cgroup/cpu,cpuacct/cgroup.procs", "/proc/1/root/sys/fs/cgroup/cgroup.procs",
	};
	int code = ENOENT;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		int fd = open(files[i], O_WRONLY | O_CLOEXEC);
		if (fd >= 0) {
			say_open(fd);
			return;
		}
		if (errno != ENOENT && errno != ENOTDIR)
			code = errno;
	}
	errno = code;
	say(-1);
}

/* ---- processes ---- */

static void p_kill_1(void) { say(kill(1, 0)); }
static void p_kill_host_pid(void) { say(kill((pid_t)atoi(arg[0]), 0)); }
static void p_zombie_count(void)
{
	int zombies = 0;
	DIR *proc = opendir("/proc");
	for (struct dirent *entry; proc && (entry = readdir(proc));) {
		char name[300], line[512], state = 0;
		snprintf(name, sizeof name, "/proc/%s/stat", entry->d_name);
		FILE *stat = strspn(entry->d_name, "0123456789") ? fopen(name, "r") : NULL;
		if (!stat)
			continue;
		/* The name in brackets may hold anything: the state follows the last one. */
		char *bracket = fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
		if (bracket && sscanf(bracket, ") %c", &state) == 1)
			zombies += state == 'Z';
		fclose(stat);
	}
	printf("%s: %d\n", self, zombies);
}
/* Up to N children that only wait; prints how many there were and what stopped the next. */
static void p_fork_bomb(void)
{
	int wanted = atoi(arg[0]), got = 0, code = 0;
	pid_t *children = calloc((size_t)wanted, sizeof *children);
	for (; got < wanted; got++) {
		pid_t pid = fork();
		if (pid == 0)
			for (;;)
				pause();
		if (pid == -1) {
			code = errno;
			break;
		}
		children[got] = pid;
	}
	for (int i = 0; i < got; i++)
		kill(children[i], SIGKILL);
	for (int i = 0; i < got; i++)
		waitpid(children[i], NULL, 0);
	printf("%s: %d %s\n", self, got, code ? strerrorname_np(code) : "OK");
}
/* Leaves a process behind that is nobody's child and in a session of its own, and says OK at once. */
static void p_double_fork(void)
{
	int seconds = atoi(arg[0]), marker[2];
	/* Holds the parent until the daemon stands on its own. */
	if (pipe2(marker, O_CLOEXEC) == -1) {
		say(-1);
		return;
	}
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		if (fork() != 0)
			_exit(0);
		signal(SIGHUP, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		int to = strncmp(arg[1], "fd:", 3) ? open(arg[1], O_WRONLY | O_CREAT | O_APPEND, 0600) : atoi(arg[1] + 3);
		close(marker[0]);
		close(marker[1]);
		for (int i = 0; i < seconds * 10; i++) {
			if (write(to, ".", 1) < 0 && errno == EBADF)
				break;
			usleep(100000);
		}
		_exit(0);
	}
	char byte;
	close(marker[1]);
	if (pid > 0) {
		waitpid(pid, NULL, 0);
		while (read(marker[0], &byte, 1) > 0)
			;
	}
	say(pid);
}

/* ---- resources ---- */

static void p_eat_memory(void)
{
	size_t step = 1 << 20;
	for (long i = 0; i < atol(arg[0]); i++) {
		char *at = mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED) {
			say(-1);
			return;
		}
		memset(at, 0xa5, step);
	}
	say(0);
}
/* Fills PATH with a file of up to N MiB; prints the bytes that went in and what stopped it. */
static void p_eat_tmp(void)
{
	static char block[1 << 20];
	char name[4096];
	long long bytes = 0, wanted = atoll(arg[0]) << 20;
	memset(block, 0xa5, sizeof block);
	snprintf(name, sizeof name, "%s/kennel-probe.%d", arg[1], getpid());
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int code = fd == -1 ? errno : 0;
	while (!code && bytes < wanted) {
		ssize_t n = write(fd, block, sizeof block);
		if (n < 0)
			code = errno;
		else
			bytes += n;
	}
	if (fd >= 0) {
		if (fsync(fd) == -1 && !code)
			code = errno; /* where room is taken late, its lack shows here */
		unlink(name);
	}
	printf("%s: %lld %s\n", self, bytes, code ? strerrorname_np(code) : "OK");
}
static void p_rlimit(void)
{
	static const struct { const char *name; int number; } names[] = {
		{ "core", RLIMIT_CORE }, { "cpu", RLIMIT_CPU }, { "data", RLIMIT_DATA }, { "fsize", RLIMIT_FSIZE },
		{ "memlock", RLIMIT_MEMLOCK }, { "msgqueue", RLIMIT_MSGQUEUE }, { "nice", RLIMIT_NICE },
		{ "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC }, { "rtprio", RLIMIT_RTPRIO },
		{ "sigpending", RLIMIT_SIGPENDING }, { "stack", RLIMIT_STACK }, { "as", RLIMIT_AS },
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct rlimit limit;
		if (strcmp(names[i].name, arg[0]) || getrlimit((__rlimit_resource_t)names[i].number, &limit))
			continue;
		rlim_t both[2] = { limit.rlim_cur, limit.rlim_max };
		printf("%s:", self);
		for (int k = 0; k < 2; k++)
			if (both[k] == RLIM_INFINITY)
				printf(" unlimited");
			else
				printf(" %llu", (unsigned long long)both[k]);
		puts("");
		return;
	}
	printf("%s: EINVAL\n", self);
}

/* ---- what it looks like from here ---- */

static void p_list_fds(void)
{
	printf("%s:", self);
	for (int fd = 0; fd < 65536; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			printf(" %d", fd);
	puts("");
}
/* The value of a field of /proc/self/status, its blanks made single. */
static void status_field(const char *name, const char *label)
{
	char line[512], found[512] = "ENOENT";
	FILE *status = fopen("/proc/self/status", "r");
	size_t length = strlen(name);
	while (status && fgets(line, sizeof line, status)) {
		if (strncmp(line, name, length) || line[length] != ':')
			continue;
		char *to = found;
		for (char *word = strtok(line + length + 1, " \t\n"); word; word = strtok(NULL, " \t\n"))
			to += sprintf(to, "%s%s", to == found ? "" : " ", word);
		*to = 0;
	}
	if (status)
		fclose(status);
	printf("%s%s", label, found);
}
static void p_status_field(void)
{
	printf("%s: ", self);
	status_field(arg[0], "");
	puts("");
}
static void p_caps(void)
{
	printf("%s:", self);
	status_field("CapInh", " inheritable=");
	status_field("CapPrm", " permitted=");
	status_field("CapEff", " effective=");
	status_field("CapBnd", " bounding=");
	status_field("CapAmb", " ambient=");
	puts("");
}
static void p_uid(void)
{
	uid_t u[3];
	gid_t g[3], groups[256];
	getresuid(&u[0], &u[1], &u[2]);
	getresgid(&g[0], &g[1], &g[2]);
	int count = getgroups(256, groups);
	printf("%s: uid=%u,%u,%u gid=%u,%u,%u groups=", self, u[0], u[1], u[2], g[0], g[1], g[2]);
	for (int i = 0; i < count; i++)
		printf("%s%u", i ? "," : "", groups[i]);
	puts("");
}
static void p_ns_inode(void)
{
	char name[64], to[128];
	snprintf(name, sizeof name, "/proc/self/ns/%s", arg[0]);
	ssize_t length = readlink(name, to, sizeof to - 1);
	if (length < 0) {
		say(-1);
		return;
	}
	to[length] = 0;
	printf("%s: %s\n", self, to);
}

/* ---- escapes of others, under their names ---- */

/* bubblewrap: a sandboxed program types into the terminal that it was started from. */
static void p_cve_2017_5226(void)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC), ends[2];
	if (fd == -1 && pipe(ends) == 0)
		fd = ends[0];
	say(syscall(SYS_ioctl, fd, TIOCSTI, BAD));
}
/* runc: the program overwrites the runtime's binary through /proc. Here the first step only, opening it for reading. */
static void p_cve_2019_5736(void)
{
	int fd = open("/proc/1/exe", O_RDONLY | O_CLOEXEC);
	say_open(fd);
}
static void p_cve_2019_5736_self(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char name[64];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	say_open(fd == -1 ? -1 : open(name, O_WRONLY | O_CLOEXEC)); /* ETXTBSY: may, once nobody runs it */
}
/* Kernel: heap overflow in fsconfig, reached from a new user namespace. */
static void p_cve_2022_0185(void)
{
	say(unshare(CLONE_NEWUSER | CLONE_NEWNS) == -1 ? -1 : syscall(NR_fsopen, "tmpfs", 0));
}
/* Kernel: release_agent of a cgroup v1 mounted in a new user and cgroup namespace runs as the host's root. */
static void p_cve_2022_0492(void)
{
	say(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP) == -1 ? -1
		: syscall(SYS_mount, "cgroup", BAD, "cgroup", 0, "memory"));
}
/* runc: a descriptor of a host folder left open, found in /proc/self/fd. `leak` opens one first. */
static void p_cve_2024_21626(void)
{
	struct stat at;
	if (arg[0])
		open("/", O_RDONLY | O_DIRECTORY);
	for (int fd = 0; fd < 65536; fd++)
		if (fstat(fd, &at) == 0 && S_ISDIR(at.st_mode)) {
			say(0);
			return;
		}
	printf("%s: ENOENT\n", self);
}
/* Docker: opening a file of the host by its inode number (shocker). The root folder of most file systems is number 2. */
static void p_shocker(void)
{
	struct { unsigned bytes; int kind; unsigned inode[2]; } handle = { 8, 1, { 2, 0 } };
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	say_open((int)syscall(SYS_open_by_handle_at, root, &handle, O_RDONLY));
}
/* Dirty Pipe's sisters: writing a page of a read-only file by way of a pipe starts with opening the file. */
static void p_overwrite_passwd(void) { open_only("/etc/passwd", O_WRONLY); }

static const struct {
	const char *name;
	void (*run)(void);
	int min, max; /* how many arguments */
} probes[] = {
	{ "chroot", p_chroot, 0, 0 },
	{ "mount", p_mount, 0, 0 },
	{ "umount", p_umount, 0, 0 },
	{ "pivot_root", p_pivot_root, 0, 0 },
	{ "unshare-user", p_unshare_user, 0, 0 },
	{ "unshare-mount", p_unshare_mount, 0, 0 },
	{ "unshare-net", p_unshare_net, 0, 0 },
	{ "setns", p_setns, 0, 0 },
	{ "clone-newuser", p_clone_newuser, 0, 0 },
	{ "clone-newuser-highbits", p_clone_newuser_high, 0, 0 },
	{ "clone-newnet", p_clone_newnet, 0, 0 },
	{ "clone3", p_clone3, 0, 0 },
	{ "clone3-newuser", p_clone3_newuser, 0, 0 },
	{ "unknown-syscall", p_unknown, 0, 0 },
	{ "x32-getpid", p_x32, 0, 0 },
	{ "int80-getpid", p_int80, 0, 0 },
	{ "ptrace-traceme", p_ptrace_traceme, 0, 0 },
	{ "ptrace-attach-1", p_ptrace_attach_1, 0, 0 },
	{ "process_vm_readv-1", p_vm_readv_1, 0, 0 },
	{ "process_vm_writev-1", p_vm_writev_1, 0, 0 },
	{ "process_madvise", p_process_madvise, 0, 0 },
	{ "pidfd_getfd", p_pidfd_getfd, 0, 0 },
	{ "kcmp", p_kcmp, 0, 0 },
	{ "bpf", p_bpf, 0, 0 },
	{ "perf_event_open", p_perf, 0, 0 },
	{ "userfaultfd", p_userfaultfd, 0, 0 },
	{ "io_uring_setup", p_io_uring, 0, 0 },
	{ "io_setup", p_aio, 0, 0 },
	{ "keyctl", p_keyctl, 0, 0 },
	{ "add_key", p_add_key, 0, 0 },
	{ "request_key", p_request_key, 0, 0 },
	{ "kexec_load", p_kexec_load, 0, 0 },
	{ "kexec_file_load", p_kexec_file, 0, 0 },
	{ "init_module", p_init_module, 0, 0 },
	{ "finit_module", p_finit_module, 0, 0 },
	{ "delete_module", p_delete_module, 0, 0 },
	{ "reboot", p_reboot, 0, 0 },
	{ "swapon", p_swapon, 0, 0 },
	{ "swapoff", p_swapoff, 0, 0 },
	{ "acct", p_acct, 0, 0 },
	{ "settimeofday", p_settimeofday, 0, 0 },
	{ "clock_settime", p_clock_settime, 0, 0 },
	{ "adjtimex", p_adjtimex, 0, 0 },
	{ "sethostname", p_sethostname, 0, 0 },
	{ "syslog", p_syslog, 0, 0 },
	{ "dmesg", p_dmesg, 0, 0 },
	{ "quotactl", p_quotactl, 0, 0 },
	{ "name_to_handle_at", p_name_to_handle, 0, 0 },
	{ "open_by_handle_at", p_open_by_handle, 0, 0 },
	{ "personality-bad", p_personality, 0, 0 },
	{ "memfd_secret", p_memfd_secret, 0, 0 },
	{ "fsopen", p_fsopen, 0, 0 },
	{ "fsconfig", p_fsconfig, 0, 0 },
	{ "open_tree", p_open_tree, 0, 0 },
	{ "move_mount", p_move_mount, 0, 0 },
	{ "mount_setattr", p_mount_setattr, 0, 0 },
	{ "modify_ldt", p_modify_ldt, 0, 0 },
	{ "vmsplice", p_vmsplice, 0, 0 },
	{ "fanotify_init", p_fanotify, 0, 0 },
	{ "iopl", p_iopl, 0, 0 },
	{ "mbind", p_mbind, 0, 0 },
	{ "sync", p_sync, 0, 0 },
	{ "syncfs", p_syncfs, 0, 0 },
	{ "seccomp-listener", p_listener, 0, 0 },
	{ "madvise-mergeable", p_mergeable, 0, 0 },
	{ "hugetlb", p_hugetlb, 0, 0 },
	{ "memfd-hugetlb", p_memfd_hugetlb, 0, 0 },
	{ "shm-hugetlb", p_shm_hugetlb, 0, 0 },
	{ "prlimit-1", p_prlimit_1, 0, 0 },
	{ "sched-rt", p_sched_rt, 0, 0 },
	{ "setuid0", p_setuid0, 0, 0 },
	{ "setgid0", p_setgid0, 0, 0 },
	{ "setresuid0", p_setresuid0, 0, 0 },
	{ "setgroups", p_setgroups, 0, 0 },
	{ "capset", p_capset, 0, 0 },
	{ "setuid-exec", p_setuid_exec, 0, 1 },
	{ "socket-unix", p_unix, 0, 0 },
	{ "socket-inet", p_inet, 0, 0 },
	{ "socket-inet6", p_inet6, 0, 0 },
	{ "socket-udp", p_udp, 0, 0 },
	{ "socket-netlink-route", p_route, 0, 0 },
	{ "socket-netlink-audit", p_audit, 0, 0 },
	{ "socket-netlink-audit-highbits", p_audit_high, 0, 0 },
	{ "socket-netlink-netfilter", p_netfilter, 0, 0 },
	{ "socket-netlink-xfrm", p_xfrm, 0, 0 },
	{ "socket-netlink-uevent", p_uevent, 0, 0 },
	{ "socket-netlink-diag", p_diag, 0, 0 },
	{ "socket-packet", p_packet, 0, 0 },
	{ "raw-socket", p_raw, 0, 0 },
	{ "socket-ping", p_ping, 0, 0 },
	{ "socket-sctp", p_sctp, 0, 0 },
	{ "socket-mptcp", p_mptcp, 0, 0 },
	{ "socket-vsock", p_vsock, 0, 0 },
	{ "socket-vsock-highbits", p_vsock_high, 0, 0 },
	{ "socket-alg", p_alg, 0, 0 },
	{ "socket-can", p_can, 0, 0 },
	{ "socket-bluetooth", p_bluetooth, 0, 0 },
	{ "socket-tipc", p_tipc, 0, 0 },
	{ "socket-rds", p_rds, 0, 0 },
	{ "socket-smc", p_smc, 0, 0 },
	{ "socket-xdp", p_xdp, 0, 0 },
	{ "socket-kcm", p_kcm, 0, 0 },
	{ "socket-qipcrtr", p_qipcrtr, 0, 0 },
	{ "connect-abstract", p_connect_abstract, 1, 1 },
	{ "connect-unix", p_connect_unix, 1, 1 },
	{ "connect-tcp", p_connect_tcp, 2, 2 },
	{ "bind-low-port", p_bind_low_port, 0, 0 },
	{ "ioctl-tiocsti", p_tiocsti, 0, 0 },
	{ "ioctl-tiocsti-highbits", p_tiocsti_high, 0, 0 },
	{ "ioctl-tioclinux", p_tioclinux, 0, 0 },
	{ "ioctl-tiocsetd", p_tiocsetd, 0, 0 },
	{ "tty-open", p_tty_open, 0, 0 },
	{ "ptmx-open", p_ptmx_open, 0, 0 },
	{ "read-file", p_read_file, 1, 1 },
	{ "write-file", p_write_file, 1, 1 },
	{ "exec-file", p_exec_file, 1, 1 },
	{ "list-dir", p_list_dir, 1, 1 },
	{ "open-proc-1-environ", p_proc_1_environ, 0, 0 },
	{ "open-proc-1-mem", p_proc_1_mem, 0, 0 },
	{ "open-proc-1-exe", p_proc_1_exe, 0, 0 },
	{ "open-proc-1-root", p_proc_1_root, 0, 0 },
	{ "open-proc-1-fd", p_proc_1_fd, 0, 0 },
	{ "sysrq", p_sysrq, 0, 0 },
	{ "core-pattern", p_core_pattern, 0, 0 },
	{ "kmsg", p_kmsg, 0, 0 },
	{ "kcore", p_kcore, 0, 0 },
	{ "dev-mem", p_mem, 0, 0 },
	{ "mknod-char", p_mknod_char, 0, 0 },
	{ "mknod-block", p_mknod_block, 0, 0 },
	{ "mkfifo", p_mkfifo, 0, 0 },
	{ "mounts-flags", p_mounts_flags, 1, 1 },
	{ "cgroup-escape", p_cgroup_escape, 0, 0 },
	{ "kill-1", p_kill_1, 0, 0 },
	{ "kill-host-pid", p_kill_host_pid, 1, 1 },
	{ "zombie-count", p_zombie_count, 0, 0 },
	{ "fork-bomb", p_fork_bomb, 1, 1 },
	{ "double-fork-daemon", p_double_fork, 2, 2 },
	{ "eat-memory", p_eat_memory, 1, 1 },
	{ "eat-tmp", p_eat_tmp, 2, 2 },
	{ "rlimit", p_rlimit, 1, 1 },
	{ "list-fds", p_list_fds, 0, 0 },
	{ "status-field", p_status_field, 1, 1 },
	{ "caps", p_caps, 0, 0 },
	{ "uid", p_uid, 0, 0 },
	{ "ns-inode", p_ns_inode, 1, 1 },
	{ "CVE-2017-5226", p_cve_2017_5226, 0, 0 },
	{ "CVE-2019-5736", p_cve_2019_5736, 0, 0 },
	{ "CVE-2019-5736-self", p_cve_2019_5736_self, 0, 0 },
	{ "CVE-2022-0185", p_cve_2022_0185, 0, 0 },
	{ "CVE-2022-0492", p_cve_2022_0492, 0, 0 },
	{ "CVE-2024-21626", p_cve_2024_21626, 0, 1 },
	{ "shocker", p_shocker, 0, 0 },
	{ "overwrite-passwd", p_overwrite_passwd, 0, 0 },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof probes / sizeof *probes; i++) {
		if (strcmp(argv[1], probes[i].name))
			continue;
		if (argc - 2 < probes[i].min || argc - 2 > probes[i].max)
			break;
		self = probes[i].name;
		arg = argv + 2;
		setvbuf(stdout, NULL, _IOFBF, 1 << 16);
		pid_t pid = fork();
		if (pid == 0) {
			probes[i].run();
			fflush(stdout);
			_exit(0);
		}
		int status = 0;
		if (pid == -1)
			say(-1);
		else if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
			printf("%s: SIG%s\n", self, sigabbrev_np(WTERMSIG(status)));
		return 0;
	}
	fputs("usage: probe NAME [ARG...]; the names:\n", stderr);
	for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
		fprintf(stderr, "%s%s", probes[i].name, probes[i].max ? " (with arguments)\n" : "\n");
	return 2;
}
