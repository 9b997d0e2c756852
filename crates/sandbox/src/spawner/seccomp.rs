//! System call filter for functions.
//!
//! The filter is a deny list, because packages use many different system calls. Namespaces, missing
//! capabilities and landlock provide the isolation. The filter also denies system calls in which
//! vulnerabilities are frequent and which no data function needs: mounts, namespaces, tracing, BPF,
//! performance counters, keys, `io_uring` and uncommon socket families.
#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::io::{Error, Result};

/// Instruction of a classic BPF program.
type BpfInstruction = libc::sock_filter;

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Offsets of fields in the filter's input: the system call's number, the architecture and the
/// arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const OWN_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OWN_ARCHITECTURE: u32 = 0xc000_00b7;

/// First number of system calls of the x32 ABI on x86. All system calls from this number on are
/// denied, because the deny list does not contain their numbers.
const X32: u32 = 0x4000_0000;

/// All `CLONE_NEW…` flags.
const NAMESPACES: u32 = 0x7e02_0080;

/// System calls that fail with the error "operation not permitted".
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_memfd_secret,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] =
    &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt, libc::SYS_uselib, libc::SYS_ustat];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// System calls that fail with "not implemented", so that libraries use older calls instead.
/// `clone3` is in the list because its flags are in memory, which a filter cannot read.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];

/// Socket families that functions may use.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// `ioctl` requests that insert input into a terminal as if a user had typed it.
const TYPING: [u32; 2] = [0x5412, 0x541c];

/// The type of process to which a filter applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessKind {
    /// A function.
    Function,
    /// A zygote. Its filter allows its clones to enter a prepared sandbox. A clone installs the
    /// filter for functions before it runs a function.
    Zygote,
}

/// Returns the BPF program of a filter.
fn program(kind: ProcessKind) -> Vec<BpfInstruction> {
    let mut program = vec![
        load(ARCHITECTURE),
        jump(EQUAL, OWN_ARCHITECTURE, 1, 0),
        answer(KILL),
        load(NUMBER),
        jump(AT_LEAST, X32, 0, 1),
        answer(refusal(libc::EPERM)),
    ];
    for number in REFUSED.iter().chain(REFUSED_HERE) {
        program.extend([jump(EQUAL, *number as u32, 0, 1), answer(refusal(libc::EPERM))]);
    }
    for number in ABSENT {
        program.extend([jump(EQUAL, *number as u32, 0, 1), answer(refusal(libc::ENOSYS))]);
    }
    if kind == ProcessKind::Function {
        let setns = libc::SYS_setns as u32;
        program.extend([jump(EQUAL, setns, 0, 1), answer(refusal(libc::EPERM))]);
    }
    let bits = jump(ANY_BIT, NAMESPACES, 0, 1);
    program.extend(argument(libc::SYS_clone, 0, &[bits, answer(refusal(libc::EPERM))]));
    let mut families: Vec<BpfInstruction> = Vec::new();
    for family in FAMILIES {
        families.extend([jump(EQUAL, family as u32, 0, 1), answer(ALLOW)]);
    }
    families.push(answer(refusal(libc::EAFNOSUPPORT)));
    program.extend(argument(libc::SYS_socket, 0, &families));
    let typing = TYPING.map(|request| [jump(EQUAL, request, 0, 1), answer(refusal(libc::EPERM))]);
    program.extend(argument(libc::SYS_ioctl, 1, typing.as_flattened()));
    program.push(answer(ALLOW));
    program
}

/// Returns instructions for the system call `number`: they load the lower half of an argument and
/// run `then`. If `then` returns no result, the call is allowed.
fn argument(number: libc::c_long, index: u32, then: &[BpfInstruction]) -> Vec<BpfInstruction> {
    let length = then.len() as u8 + 2;
    let mut part = vec![jump(EQUAL, number as u32, 0, length), load(ARGUMENTS + 8 * index)];
    part.extend(then);
    part.push(answer(ALLOW));
    part
}

/// Installs the filter for this thread and its descendants. Requires `no_new_privs`.
pub(super) fn install(kind: ProcessKind) -> Result<()> {
    let program = program(kind);
    let filter =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, and the kernel copies and checks it.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Returns the filter for functions in the kernel's format, as hexadecimal digits. Clones install
/// this filter themselves.
pub(super) fn digits() -> String {
    let instructions = program(ProcessKind::Function).into_iter();
    let bytes = instructions.flat_map(|i| {
        let [low, high] = i.code.to_ne_bytes();
        let [a, b, c, d] = i.k.to_ne_bytes();
        [low, high, i.jt, i.jf, a, b, c, d]
    });
    hex::encode(bytes.collect::<Vec<u8>>())
}

fn load(offset: u32) -> BpfInstruction {
    BpfInstruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

/// Returns a conditional jump. It skips `yes` instructions if the comparison holds, otherwise `no`
/// instructions.
fn jump(code: u16, constant: u32, yes: u8, no: u8) -> BpfInstruction {
    BpfInstruction { code, jt: yes, jf: no, k: constant }
}

fn answer(what: u32) -> BpfInstruction {
    BpfInstruction { code: RETURN, jt: 0, jf: 0, k: what }
}

fn refusal(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets a filter program, and returns its result for a system call.
    fn decide(program: &[BpfInstruction], number: libc::c_long, arguments: [u64; 2]) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let one = program[at];
            at += 1;
            let holds = match one.code {
                RETURN => return one.k,
                LOAD => {
                    held = match one.k {
                        NUMBER => number as u32,
                        ARCHITECTURE => OWN_ARCHITECTURE,
                        offset => arguments[(offset - ARGUMENTS) as usize / 8] as u32,
                    };
                    continue;
                }
                EQUAL => held == one.k,
                AT_LEAST => held >= one.k,
                ANY_BIT => held & one.k != 0,
                code => panic!("{code}"),
            };
            at += usize::from(if holds { one.jt } else { one.jf });
        }
    }

    #[test]
    fn system_calls_are_filtered_by_number_and_argument() {
        let (function, zygote) = (program(ProcessKind::Function), program(ProcessKind::Zygote));
        let not_permitted = refusal(libc::EPERM);
        for (number, arguments, wanted) in [
            (libc::SYS_read, [0, 0], ALLOW),
            (libc::SYS_mount, [0, 0], not_permitted),
            (libc::SYS_vhangup, [0, 0], not_permitted),
            (libc::SYS_clone3, [0, 0], refusal(libc::ENOSYS)),
            (libc::SYS_clone, [libc::CLONE_VM as u64, 0], ALLOW),
            (libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0], not_permitted),
            (libc::SYS_socket, [libc::AF_INET as u64, 0], ALLOW),
            (libc::SYS_socket, [libc::AF_VSOCK as u64, 0], refusal(libc::EAFNOSUPPORT)),
            (libc::SYS_ioctl, [0, 0x5412], not_permitted),
            (libc::SYS_ioctl, [0, 0x5401], ALLOW),
            (libc::SYS_read | libc::c_long::from(X32), [0, 0], not_permitted),
        ] {
            assert_eq!(decide(&function, number, arguments), wanted, "{number} {arguments:?}");
            assert_eq!(decide(&zygote, number, arguments), wanted, "{number} {arguments:?}");
        }
        assert_eq!(decide(&function, libc::SYS_setns, [0, 0]), not_permitted);
        assert_eq!(decide(&zygote, libc::SYS_setns, [0, 0]), ALLOW);
    }
}
