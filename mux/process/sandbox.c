/* What the process may still do once everything is open: as which user it goes on, and which system calls it
 * may make.
 *
 * Three kinds of system calls. What the event loop and the storage thread need is allowed, where it matters
 * with certain arguments only. What they would never do, and what somebody who has taken the process over
 * would do first, ends the process. All the rest fails with ENOSYS, as if the kernel did not have it: a C
 * library newer than this list tries a new call and falls back to an old one, instead of costing all VMs
 * their security VMs. The kernel logs both (audit, type 1326). */
#include "mux/process/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <seccomp.h>

#include "mux/base/log.h"

#define GROUPS_MAX 64 /* of the user */

#ifdef __SANITIZE_ADDRESS__ /* which looks into its own process at the end, and makes calls of its own */
#define SANITIZED true
#else
#define SANITIZED false
#endif

static char as_user[80]; /* " (as user NAME)" */

/* ---- the user ---- */

const char *
sandbox_as(void)
{
    return as_user;
}

/* Read from /etc/passwd itself: a static program has no NSS. */
static bool
find_user(const char *name, struct sandbox_user *user)
{
    FILE *file = fopen("/etc/passwd", "re");
    const struct passwd *entry;
    bool found = false;

    /* cppcheck-suppress fgetpwentCalled ; there is one thread */
    while (file && !found && (entry = fgetpwent(file))) {
        found = strcmp(entry->pw_name, name) == 0;
        user->uid = entry->pw_uid;
        user->gid = entry->pw_gid;
    }
    if (file)
        fclose(file);
    return found;
}

bool
sandbox_find_user(const char *name, struct sandbox_user *user)
{
    *user = (struct sandbox_user){ .name = name };
    if (name[0] == '\0') {
        if (geteuid() == 0)
            log_info(NULL, "goes on as root: the configuration has no user");
        return true;
    }
    if (!find_user(name, user)) {
        log_error(NULL, "user = \"%s\": no such user in /etc/passwd", name);
        return false;
    }
    if (geteuid() != 0) {
        if (geteuid() != user->uid)
            log_warning(NULL, "user = \"%s\": not started as root, so goes on as user number %u", name,
                        (unsigned)geteuid());
        return true;
    }
    if (user->uid == 0) {
        log_error(NULL, "user = \"%s\": expected one that is not root", name);
        return false;
    }
    user->given = true;
    return true;
}

/* The groups that /etc/group lists the user in, its own first. */
static size_t
find_groups(const struct sandbox_user *user, gid_t groups[GROUPS_MAX])
{
    FILE *file = fopen("/etc/group", "re");
    const struct group *group;
    size_t count = 0;

    groups[count++] = user->gid;
    /* cppcheck-suppress fgetgrentCalled ; there is one thread */
    while (file && (group = fgetgrent(file)))
        for (char **member = group->gr_mem; *member && count < GROUPS_MAX; member++)
            if (strcmp(*member, user->name) == 0)
                groups[count++] = group->gr_gid;
    if (file)
        fclose(file);
    return count;
}

bool
sandbox_become(const struct sandbox_user *user)
{
    gid_t groups[GROUPS_MAX];

    if (!user->given)
        return true;
    if (setgroups(find_groups(user, groups), groups) != 0 ||
        setresgid(user->gid, user->gid, user->gid) != 0 || setresuid(user->uid, user->uid, user->uid) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, SANITIZED, 0, 0, 0) != 0) {
        log_error(NULL, "cannot become user %s: %s", user->name, strerror(errno));
        return false;
    }
    if (setuid(0) == 0 || setgid(0) == 0) {
        log_error(NULL, "cannot become user %s: root can be had back", user->name);
        return false;
    }
    snprintf(as_user, sizeof(as_user), " (as user %s)", user->name);
    return true;
}

bool
sandbox_give(const struct sandbox_user *user, const char *path, gid_t group)
{
    uid_t owner = user->given ? user->uid : (uid_t)-1;

    if (group == (gid_t)-1 && user->given)
        group = user->gid;
    return (owner == (uid_t)-1 && group == (gid_t)-1) || lchown(path, owner, group) == 0;
}

/* ---- system calls ---- */

static const int allowed[] = {
    /* the event loop */
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    /* sockets */
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(bind),
    SCMP_SYS(connect),
    SCMP_SYS(listen),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    /* descriptors */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(lseek),
    /* files: the configuration, certificates, sockets' names, what VM logs are kept in */
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(flock),
    SCMP_SYS(ftruncate),
    SCMP_SYS(getdents64),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(umask),
    SCMP_SYS(chmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(lchown),
    SCMP_SYS(fchownat),
    SCMP_SYS(memfd_create),
    /* memory, threads that were started just before, and the end */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(rseq),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(sched_yield),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    /* who and where we are */
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getrandom),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
};

static const int deadly[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(clone),
    SCMP_SYS(clone3),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kill),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(personality),
    SCMP_SYS(setuid),
    SCMP_SYS(setresuid),
    SCMP_SYS(modify_ldt),
};

#define ADD(action, call, ...)                                                                               \
    (result == 0 ? seccomp_rule_add(filter, action, SCMP_SYS(call), __VA_ARGS__) : result)

/* Calls of which some arguments are for event loops and others for intruders. Returns 0 or -errno. */
static int
allow_some(scmp_filter_ctx filter)
{
    static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_VSOCK };
    int result = 0;

    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        result = ADD(SCMP_ACT_ALLOW, socket, 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
    result = ADD(SCMP_ACT_ALLOW, socketpair, 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    result = ADD(SCMP_ACT_ALLOW, mmap, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    result = ADD(SCMP_ACT_ALLOW, mprotect, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    result = ADD(SCMP_ACT_ALLOW, ioctl, 1, SCMP_A1(SCMP_CMP_EQ, FIONREAD));
    result = ADD(SCMP_ACT_ALLOW, ioctl, 1, SCMP_A1(SCMP_CMP_EQ, FIONBIO));
    result = ADD(SCMP_ACT_ALLOW, ioctl, 1, SCMP_A1(SCMP_CMP_EQ, TCGETS));                  /* isatty */
    result = ADD(SCMP_ACT_ALLOW, tgkill, 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid())); /* abort */
    /* looking at limits, not changing them */
    result = ADD(SCMP_ACT_ALLOW, prlimit64, 1, SCMP_A2(SCMP_CMP_EQ, 0));
    return result;
}

static int
add_rules(scmp_filter_ctx filter)
{
    int result = allow_some(filter);

    for (size_t i = 0; result == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; result == 0 && i < sizeof(deadly) / sizeof(deadly[0]); i++)
        result = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
    return result;
}

void
sandbox_filter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int result = filter ? 0 : -ENOMEM;

    if (SANITIZED) {
        log_info(NULL, "no filter of system calls: the sanitizers need more of them");
        seccomp_release(filter);
        return;
    }
    if (result == 0)
        result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (result == 0)
        result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
    if (result == 0)
        result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (result == 0)
        result = add_rules(filter);
    if (result == 0)
        result = seccomp_load(filter);
    if (result != 0)
        log_warning(NULL, "goes on without a filter of system calls: %s", strerror(-result));
    seccomp_release(filter);
}
