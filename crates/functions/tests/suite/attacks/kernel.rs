//! The kernel: the filter rejects system calls that functions do not need.

use super::{held, held_for_anybody};

#[tokio::test]
async fn nothing_can_be_mounted() {
    held_for_anybody(
        "LIBC.mount(b'none', b'/tmp', b'tmpfs', 0, None)
return ctypes.get_errno() == errno.EPERM and refused('mount', 'umount2', 'pivot_root', 'fsopen',
    'fsconfig', 'fsmount', 'fspick', 'open_tree', 'move_mount', 'mount_setattr')",
    )
    .await;
}

#[tokio::test]
async fn no_namespace_can_be_created() {
    held_for_anybody(
        "flags = [0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x04000000, 0x02000000]
return all(call('unshare', flag) == errno.EPERM for flag in flags) and \\
    all(call('clone', flag | 17, 0, 0, 0, 0) == errno.EPERM for flag in flags)",
    )
    .await;
}

#[tokio::test]
async fn flags_of_a_clone_cannot_be_hidden_in_memory() {
    held("return call('clone3', 0, 0) == errno.ENOSYS").await;
}

#[tokio::test]
async fn no_namespace_can_be_entered() {
    held_for_anybody(
        "own = [os.open('/proc/self/ns/' + name, os.O_RDONLY) for name in ['user', 'mnt', 'net']]
return all(call('setns', file, 0) == errno.EPERM for file in own)",
    )
    .await;
}

#[tokio::test]
async fn nothing_can_be_traced() {
    held_for_anybody(
        "child = subprocess.Popen(['/bin/sleep', '10'])
refusals = [call('ptrace', request, child.pid, 0, 0) for request in (0, 16, 0x4206)]
child.kill()
return refusals == [errno.EPERM] * 3",
    )
    .await;
}

#[tokio::test]
async fn no_other_memory_can_be_read_or_written() {
    held(
        "return refused('process_vm_readv', 'process_vm_writev', 'kcmp', 'process_madvise', 'move_pages') \\
    and fails(open, '/proc/1/mem', 'rb') and fails(open, '/proc/kcore', 'rb')",
    )
    .await;
}

#[tokio::test]
async fn bpf_is_refused() {
    held("return refused('bpf')").await;
}

#[tokio::test]
async fn performance_counters_are_refused() {
    held("return refused('perf_event_open')").await;
}

#[tokio::test]
async fn kernel_keys_are_inaccessible() {
    held("return refused('keyctl', 'add_key', 'request_key')").await;
}

/// Reads the keyring through this user's `/proc`, where the filter does not apply.
#[tokio::test]
async fn the_servers_session_keyring_is_left_behind() {
    held(
        "keys = open('/proc/keys').read().splitlines() if os.path.exists('/proc/keys') else []
print(keys)
return not [key for key in keys if ' user ' in key or ' logon ' in key]",
    )
    .await;
}

#[tokio::test]
async fn page_faults_cannot_be_handled() {
    held("return refused('userfaultfd')").await;
}

#[tokio::test]
async fn io_uring_is_absent() {
    held(
        "names = ['io_uring_setup', 'io_uring_enter', 'io_uring_register']
return refused(*names, wanted=[errno.ENOSYS])",
    )
    .await;
}

#[tokio::test]
async fn the_machine_cannot_be_administered() {
    held(
        "return refused('init_module', 'finit_module', 'kexec_load', 'reboot', 'swapon', 'syslog', 'acct',
    'quotactl', 'sethostname', 'clock_settime', 'settimeofday', 'fanotify_init')",
    )
    .await;
}

#[tokio::test]
async fn the_kernels_settings_cannot_be_changed() {
    held(
        "paths = ['/proc/sys/kernel/hostname', '/proc/sys/kernel/core_pattern', '/proc/sys/vm/swappiness',
    '/proc/1/oom_score_adj', '/proc/sysrq-trigger', '/proc/self/uid_map', '/proc/self/setgroups']
def write(path):
    with open(path, 'w') as file:
        file.write('1')
return all([fails(write, path) for path in paths])",
    )
    .await;
}

#[tokio::test]
async fn calls_of_another_abi_are_refused() {
    held(
        "if MACHINE != 0:
    return True
return call(0x40000000 + 39) != 0 and call(0x40000000 + 165) != 0",
    )
    .await;
}

#[tokio::test]
async fn the_filter_stays() {
    held(
        "prctl, filter_, off = 157, 22, 0
return status('Seccomp') == '2' and status('NoNewPrivs') == '1' and LIBC.prctl(38, 0, 0, 0, 0) != 0",
    )
    .await;
}

#[tokio::test]
async fn a_function_has_no_capability_and_cannot_gain_one() {
    held_for_anybody(
        "held = [int(status(name), 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')]
shell = subprocess.run(['/bin/cat', '/proc/self/status'], capture_output=True, text=True).stdout
after = [line.split()[1] for line in shell.splitlines() if line.startswith(('CapPrm', 'CapEff'))]
return held == [0] * 4 and [int(one, 16) for one in after] == [0, 0]",
    )
    .await;
}

#[tokio::test]
async fn a_function_is_not_root_and_cannot_become_root() {
    held_for_anybody(
        "own = os.getuid() != 0 and os.getgid() != 0 and os.geteuid() == os.getuid()
attempts = [(os.setuid, 0), (os.setgid, 0), (os.setgroups, [0]), (os.setresuid, 0, 0, 0)]
return own and 0 not in os.getgroups() and all([fails(*attempt) for attempt in attempts])",
    )
    .await;
}

#[tokio::test]
async fn secret_memory_is_refused() {
    held("return refused('memfd_secret')").await;
}

#[tokio::test]
async fn nothing_can_be_typed_into_a_terminal() {
    held(
        "import fcntl
return all([fails(fcntl.ioctl, 1, request, b'x') for request in (0x5412, 0x541c)])",
    )
    .await;
}

/// The process owns the files of its `/proc`; only landlock's rules prevent writes to them.
#[tokio::test]
async fn a_process_cannot_write_its_own_proc_files() {
    held_for_anybody(
        "if call(444, 0, 0, 1) != 0:
    print('NOT CHECKED: the kernel has no landlock')
    return True
knobs = ['comm', 'oom_score_adj', 'coredump_filter', 'timerslack_ns', 'task/self/comm', 'setgroups', 'uid_map']
return all([fails(open, '/proc/self/' + knob.replace('task/self', f'task/{os.getpid()}'), 'r+') for knob in knobs])",
    )
    .await;
}
