//! Files: a function can read only the host's programs, writes only to `/tmp`, and leaves no files.

use super::{held, held_by, held_for_anybody, held_within};
use crate::support::start;
use headwater_functions::Limits;

#[tokio::test]
async fn no_file_of_the_host_can_be_read() {
    held_for_anybody(
        "hidden = ['/home', '/etc/shadow', '/var', '/sys', '/boot', '/run', '/mnt', '/opt', '/srv',
          '/dev/sda', '/dev/kmsg', '/dev/mem', '/dev/kvm', '/dev/fuse', '/dev/net/tun']
root = os.listdir('/root') if os.path.exists('/root') else []
return not [path for path in hidden if os.path.exists(path)] and set(root) <= {'.pyenv', '.local'}",
    )
    .await;
}

#[tokio::test]
async fn nothing_can_be_written_but_tmp() {
    held_for_anybody(
        "for folder in ['/', '/usr', '/etc', '/project', '/headwater', '/environment', '/dev', '/proc']:
    if not fails(open, os.path.join(folder, 'x'), 'w'):
        return False
open('/tmp/x', 'w').write('x')
return True",
    )
    .await;
}

#[tokio::test]
async fn tmp_begins_empty() {
    held("return os.listdir('/tmp') == [] and os.listdir('/dev/shm') == []").await;
}

#[tokio::test]
async fn tmp_keeps_nothing_for_the_next_instance() {
    let functions = start().await;
    held_by(&functions, Limits::default(), "open('/tmp/secret', 'w').write('x'); return True")
        .await;
    held_by(&functions, Limits::default(), "return not os.path.exists('/tmp/secret')").await;
}

#[tokio::test]
async fn a_disk_cannot_be_filled() {
    let limits = Limits { temp_bytes: 16 << 20, ..Limits::default() };
    held_within(
        limits,
        "try:
    with open('/tmp/x', 'wb') as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
except OSError as error:
    return error.errno == errno.ENOSPC
return False",
    )
    .await;
}

#[tokio::test]
async fn devices_cannot_be_created() {
    held(
        "return fails(os.mknod, '/tmp/c', 0o600 | stat.S_IFCHR, os.makedev(1, 1)) and \\
    fails(os.mknod, '/tmp/b', 0o600 | stat.S_IFBLK, os.makedev(8, 0))",
    )
    .await;
}

#[tokio::test]
async fn only_harmless_devices_exist() {
    held(
        "found = set()
for name in os.listdir('/dev'):
    mode = os.lstat('/dev/' + name).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        found.add(name)
return found == {'null', 'zero', 'full', 'random', 'urandom'}",
    )
    .await;
}

#[tokio::test]
async fn links_of_proc_lead_nowhere_outside() {
    held(
        "for link in ['/proc/1/root', '/proc/1/cwd', '/proc/1/exe', '/proc/1/fd']:
    if not fails(os.listdir, link + '/'):
        return False
return os.listdir('/proc/self/root/') == os.listdir('/')",
    )
    .await;
}

#[tokio::test]
async fn the_old_root_is_gone() {
    held_for_anybody(
        "here = os.open('/', os.O_RDONLY)
for _ in range(16):
    os.chdir('..')
inside = os.stat('.').st_ino == os.fstat(here).st_ino and os.listdir('.') == os.listdir('/')
lines = open('/proc/self/mountinfo').read().splitlines()
roots = [line for line in lines if line.split()[4] == '/']
return inside and len(roots) == 1 and call('chroot', b'/tmp') == errno.EPERM",
    )
    .await;
}

#[tokio::test]
async fn every_mount_but_tmp_is_read_only() {
    held_for_anybody(
        "lines = [line.split() for line in open('/proc/self/mountinfo')]
loose = [fields[4] for fields in lines if 'ro' not in fields[5].split(',')]
print(loose)
return {path for path in loose if not path.startswith(('/dev/', '/proc'))} == {'/tmp'}",
    )
    .await;
}

#[tokio::test]
async fn set_user_id_programs_gain_nothing() {
    held(
        "return all(os.statvfs(path).f_flag & os.ST_NOSUID for path in ['/', '/usr', '/tmp', '/environment'])",
    )
    .await;
}

#[tokio::test]
async fn packages_cannot_be_changed() {
    held_for_anybody(
        "import pyarrow
file = pyarrow.__file__
folder = os.path.dirname(file)
attempts = [(open, file, 'a'), (os.unlink, file), (os.chmod, file, 0o777), (os.rename, file, file + '2'),
    (os.truncate, file, 0), (os.symlink, '/tmp', folder + '/link'), (os.link, file, folder + '/hard'),
    (os.utime, file), (os.setxattr, file, 'user.x', b'x'), (os.mkdir, folder + '/new')]
return all([fails(*attempt) for attempt in attempts])",
    )
    .await;
}

#[tokio::test]
async fn links_do_not_lead_out() {
    held_for_anybody(
        "os.symlink('/etc/shadow', '/tmp/a')
os.symlink('../../../../../root', '/tmp/b')
os.symlink('/proc/1/root/etc/shadow', '/tmp/c')
outside = fails(open, '/tmp/a') and fails(open, '/tmp/c')
seen = os.listdir('/tmp/b') if os.path.exists('/tmp/b') else []
return outside and set(seen) <= {'.pyenv', '.local'} and fails(os.link, '/etc/passwd', '/tmp/d')",
    )
    .await;
}

#[tokio::test]
async fn files_cannot_be_opened_by_handle() {
    held("return refused('open_by_handle_at', 'name_to_handle_at')").await;
}

#[tokio::test]
async fn sockets_of_the_host_are_invisible() {
    held(
        "found = []
for folder, _, names in os.walk('/', onerror=None):
    if folder.startswith(('/proc', '/usr', '/environment')):
        continue
    for name in names:
        path = os.path.join(folder, name)
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            found.append(path)
print(found)
return not found",
    )
    .await;
}
