//! System calls, each behind a safe function. Descriptors are borrowed or owned, lengths come from slices.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_int, c_ulong};

/// What one wait may end with.
pub const READABLE: i16 = libc::POLLIN;
/// Room for one more message.
pub const WRITABLE: i16 = libc::POLLOUT;

/// Milliseconds of CLOCK_BOOTTIME.
pub fn boot_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours. It cannot fail: Linux has had the clock since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Waits until one of the descriptors has something, and says of each whether it has. None: for ever.
pub fn poll<const N: usize>(
    fds: [(BorrowedFd<'_>, i16); N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut list = fds.map(|(fd, events)| libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    });
    let timeout = timeout.map_or(-1, |time| {
        c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
    });
    // SAFETY: `list` is N pollfds, and its descriptors are open for as long as `fds` borrows them.
    let result = unsafe { libc::poll(list.as_mut_ptr(), N as libc::nfds_t, timeout) };
    match check(result) {
        Ok(_) => Ok(list.map(|entry| entry.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// An eventfd: readable for ever once `signal` was called.
pub fn event() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Makes an eventfd readable.
pub fn signal(event: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: 8 bytes of ours. It fails only when the eventfd is readable already.
    unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// A timer on CLOCK_BOOTTIME, readable when it is due.
pub fn timer() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    own(unsafe {
        libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
    })
}

/// Sets a timer to a time of CLOCK_BOOTTIME in milliseconds; None: never. A time that has passed is due at once.
pub fn set_timer(timer: &OwnedFd, at: Option<u64>) {
    let time = match at {
        Some(at) => libc::timespec {
            tv_sec: (at / 1000) as libc::time_t,
            tv_nsec: (at % 1000 * 1_000_000).max(1) as _, // all zero would disarm it
        },
        None => libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
    };
    let spec = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: time,
    };
    // SAFETY: the pointer is to an itimerspec of ours, the other may be null. It fails on no valid time.
    unsafe {
        libc::timerfd_settime(
            timer.as_raw_fd(),
            libc::TFD_TIMER_ABSTIME,
            &raw const spec,
            std::ptr::null_mut(),
        )
    };
}

/// Two connected ends that keep message boundaries.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the pointer is to two ints of ours.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the call has just opened both, and nothing else has them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A socket that is closed on exec and never blocks.
pub fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    own(unsafe {
        libc::socket(
            family,
            kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            protocol,
        )
    })
}

/// setsockopt with an int.
pub fn set_option(fd: impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = mem::size_of::<c_int>() as libc::socklen_t;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the pointer is to an int of ours, and `length` is its length.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) })?;
    Ok(())
}

/// Who holds the other end of a Unix socket (SO_PEERCRED).
pub fn peer_credentials(fd: RawFd) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = mem::size_of::<libc::ucred>() as libc::socklen_t;
    let place = (&raw mut credentials).cast();
    // SAFETY: `place` has `length` bytes; a descriptor that is not a socket is an error, not a fault.
    check(unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            place,
            &raw mut length,
        )
    })?;
    Ok(credentials)
}

/// A descriptor of our own for what a caller's descriptor names. The caller keeps its own.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a number that is no descriptor is an error.
    own(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

/// Makes reads and writes return at once.
pub fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: no pointers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// struct ifreq with whatever its union holds, in bytes.
#[repr(C, align(8))]
pub struct InterfaceRequest {
    /// The interface's name and a zero.
    pub name: [u8; libc::IFNAMSIZ],
    /// The union.
    pub value: [u8; 24],
}

/// An ioctl that takes a struct ifreq.
pub fn interface_ioctl(
    fd: &OwnedFd,
    request: c_ulong,
    argument: &mut InterfaceRequest,
) -> io::Result<()> {
    // SAFETY: the argument is as long as a struct ifreq, which is all that these requests read or write.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument) })?;
    Ok(())
}

/// Sets how many packets may wait in front of an interface (SIOCSIFTXQLEN).
pub fn set_queue_length(name: &str, length: u32) -> io::Result<()> {
    const SIOCSIFTXQLEN: c_ulong = 0x8943;
    let mut request = InterfaceRequest::named(name).ok_or(io::ErrorKind::InvalidInput)?;
    [
        request.value[0],
        request.value[1],
        request.value[2],
        request.value[3],
    ] = length.to_ne_bytes();
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    interface_ioctl(&socket, SIOCSIFTXQLEN, &mut request)
}

/// Whether there is IPv6: not where it was built without, or booted with ipv6.disable=1.
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// The kernel's version, like (6, 18, 44).
pub fn kernel_version() -> Option<(u32, u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release
        .split(|char: char| !char.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    Some((
        numbers.next()?,
        numbers.next()?,
        numbers.next().unwrap_or(0),
    ))
}

/// An ioctl that takes a number.
pub fn number_ioctl(fd: &OwnedFd, request: c_ulong, argument: c_ulong) -> io::Result<()> {
    // SAFETY: no pointers: these requests take the number itself.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument) })?;
    Ok(())
}

/// Sends bytes on a connected or netlink socket.
pub fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are a slice's.
    check(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) as c_int })
        .map(|sent| sent as usize)
}

/// Receives a message on a connected or netlink socket.
pub fn receive(fd: &OwnedFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are a slice's.
    check(unsafe { libc::recv(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) as c_int })
        .map(|received| received as usize)
}

/// An error for a negative result.
pub fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn own(result: c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the system call has just opened it, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
