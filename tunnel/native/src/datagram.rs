//! One system call that sends or receives datagrams, with what the kernel says and is told beside them (cmsg): UDP_SEGMENT
//! and UDP_GRO, IP_PKTINFO and IPV6_PKTINFO.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_void};

use crate::path::Path;

/// A receive buffer's least length: an aggregate has up to 65,507 bytes.
pub const AGGREGATE: usize = 65_536;

/// What came with one call.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Bytes in the buffer.
    pub length: usize,
    /// Length of each datagram in it but the last, which may be shorter; `length` when it is one.
    pub stride: usize,
    /// Where from, and which address of ours it came to.
    pub from: Path,
    /// Not everything fitted: drop it.
    pub truncated: bool,
}

/// Receives a datagram, or an aggregate of them.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut name = empty_name();
    let mut control = Control::default();
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = message(&mut name, &mut iov, &mut control, CONTROL);
    // SAFETY: every pointer in `message` is to memory of ours, with the length beside it, that lives until the return.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let remote = socket_address(&name).ok_or(io::ErrorKind::InvalidData)?;
    let mut received = Received {
        length,
        stride: length,
        from: Path::to(remote),
        truncated: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
    };
    // SAFETY: the kernel has filled `message`'s control buffer and set its length.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header that lies whole in the control buffer.
    while let Some(entry) = unsafe { header.as_ref() } {
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(header) };
        read_control(entry, data, &mut received);
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(received)
}

/// Sends `bytes` along a path: as one datagram, or with a `stride` as datagrams of so many bytes each, the last shorter.
pub fn send(socket: &OwnedFd, path: &Path, bytes: &[u8], stride: Option<u16>) -> io::Result<()> {
    let mut name = empty_name();
    let name_length = write_name(&mut name, &path.remote);
    let mut control = Control::default();
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(), // sendmsg only reads
        iov_len: bytes.len(),
    };
    let mut used = 0;
    if let Some(stride) = stride {
        used += put_control(&mut control, used, libc::SOL_UDP, UDP_SEGMENT, stride);
    }
    match path.source {
        Some(IpAddr::V4(source)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: path.interface as c_int,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            used += put_control(&mut control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(source)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: path.interface as _,
            };
            used += put_control(
                &mut control,
                used,
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                info,
            );
        }
        None => {}
    }
    let mut message = message(&mut name, &mut iov, &mut control, used);
    message.msg_namelen = name_length;
    if used == 0 {
        message.msg_control = ptr::null_mut();
    }
    // SAFETY: every pointer in `message` is to memory of ours, with the length beside it, that lives until the return.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Binds to every address of a family.
pub fn bind(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
    let mut name = empty_name();
    let length = write_name(&mut name, address);
    // SAFETY: `name` holds `length` bytes of an address.
    crate::sys::check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const name).cast(), length) })?;
    Ok(())
}

/// The port that a socket is bound to.
pub fn bound_port(socket: &OwnedFd) -> io::Result<u16> {
    let mut name = empty_name();
    let mut length = mem::size_of_val(&name) as libc::socklen_t;
    let fd: RawFd = socket.as_raw_fd();
    // SAFETY: `name` has `length` bytes.
    crate::sys::check(unsafe { libc::getsockname(fd, (&raw mut name).cast(), &raw mut length) })?;
    Ok(socket_address(&name)
        .ok_or(io::ErrorKind::InvalidData)?
        .port())
}

/// Room for a stride and an address, aligned as cmsghdr wants.
#[repr(C, align(8))]
#[derive(Default)]
struct Control([u64; CONTROL / 8]);

fn message(
    name: &mut libc::sockaddr_storage,
    iov: &mut libc::iovec,
    control: &mut Control,
    control_length: usize,
) -> libc::msghdr {
    // SAFETY: zeros are a valid msghdr: null pointers and lengths of 0.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = ptr::from_mut(name).cast();
    message.msg_namelen = mem::size_of_val(name) as libc::socklen_t;
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = control_length as _;
    message
}

/// Appends a control message at `at`; the bytes that it takes, 0 when there is no room.
fn put_control<T: Copy>(
    control: &mut Control,
    at: usize,
    level: c_int,
    kind: c_int,
    value: T,
) -> usize {
    let payload = mem::size_of::<T>() as u32;
    // SAFETY: these two only calculate.
    let (space, length) = unsafe {
        (
            libc::CMSG_SPACE(payload) as usize,
            libc::CMSG_LEN(payload) as usize,
        )
    };
    if at + space > CONTROL {
        return 0;
    }
    let header = libc::cmsghdr {
        cmsg_len: length as _,
        cmsg_level: level,
        cmsg_type: kind,
    };
    // SAFETY: `at` is 0 or a sum of CMSG_SPACEs, so aligned, and `space` bytes from there on are inside the buffer.
    unsafe {
        let place = ptr::from_mut(control)
            .cast::<u8>()
            .add(at)
            .cast::<libc::cmsghdr>();
        place.write(header);
        libc::CMSG_DATA(place).cast::<T>().write_unaligned(value);
    }
    space
}

/// Reads what one control message says.
fn read_control(entry: &libc::cmsghdr, data: *const u8, received: &mut Received) {
    let header = mem::size_of::<libc::cmsghdr>();
    let payload = entry.cmsg_len.saturating_sub(header);
    match (entry.cmsg_level, entry.cmsg_type) {
        (libc::SOL_UDP, UDP_GRO) => {
            if let Some(stride) = read::<c_int>(data, payload)
                && stride > 0
            {
                received.stride = stride as usize;
            }
        }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            if let Some(info) = read::<libc::in_pktinfo>(data, payload) {
                let source = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                received.from.source = Some(IpAddr::V4(source));
                received.from.interface = info.ipi_ifindex as u32;
            }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            if let Some(info) = read::<libc::in6_pktinfo>(data, payload) {
                received.from.source = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                received.from.interface = info.ipi6_ifindex;
            }
        }
        _ => {}
    }
}

/// Reads a plain C value of those above, if all of it is there.
fn read<T: Copy>(data: *const u8, length: usize) -> Option<T> {
    if length < mem::size_of::<T>() {
        return None;
    }
    // SAFETY: the kernel wrote `length` bytes at `data`, and every bit pattern is a value of the integers that T has.
    Some(unsafe { data.cast::<T>().read_unaligned() })
}

fn empty_name() -> libc::sockaddr_storage {
    // SAFETY: zeros are a valid sockaddr_storage: family 0, "unspecified".
    unsafe { mem::zeroed() }
}

/// The address in a sockaddr; None for a family other than IPv4 and IPv6.
fn socket_address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let place: *const c_void = ptr::from_ref(name).cast();
    match c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage is longer than a sockaddr_in and aligned for it, and the family says that it is one.
            let name = unsafe { &*place.cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(address, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a sockaddr_in6.
            let name = unsafe { &*place.cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let port = u16::from_be(name.sin6_port);
            Some(SocketAddrV6::new(address, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_name(name: &mut libc::sockaddr_storage, address: &SocketAddr) -> libc::socklen_t {
    let place: *mut c_void = ptr::from_mut(name).cast();
    match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is longer than a sockaddr_in and aligned for it.
            unsafe { place.cast::<libc::sockaddr_in>().write(value) };
            mem::size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above, for a sockaddr_in6.
            unsafe { place.cast::<libc::sockaddr_in6>().write(value) };
            mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

const UDP_SEGMENT: c_int = 103;
const UDP_GRO: c_int = 104;
/// CMSG_SPACE of an int and of an in6_pktinfo, and a little more.
const CONTROL: usize = 128;
