//! The outside: one UDP port, a socket for each family, and what the kernel refuses of GSO at run time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::clock::Millis;
use crate::datagram::{self, Received};
use crate::failure::{Code, Failure};
use crate::gso::{Gso, is_about_gso};
use crate::path::Path;
use crate::sys;
use crate::tun::Offload;

/// Datagrams in one UDP_SEGMENT send: every kernel takes 64 (UDP_MAX_SEGMENTS before Linux 6.9).
pub const MOST_SEGMENTS: usize = 64;
/// Bytes in one. More than this, the packet and its link header reach 65,536 and the kernel cuts it up in software.
pub const MOST_BYTES: usize = 65_472;

/// Both sockets.
pub struct Udp {
    v4: Socket,
    v6: Option<Socket>,
    /// Of both.
    pub port: u16,
}

/// How a send went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that left.
    pub datagrams: usize,
    /// Datagrams that left together.
    pub batched: usize,
    /// System calls.
    pub calls: usize,
    /// The kernel refused to send from there, and what it took instead.
    pub loosened: Option<Path>,
}

/// One socket.
pub struct Socket {
    fd: OwnedFd,
    receives_aggregates: bool,
    gso: Gso,
}

impl Udp {
    /// Opens both sockets on one port, 0 for any; a machine without IPv6 gets one.
    pub fn open(port: u16, fwmark: u32, offload: Offload) -> Result<Self, Failure> {
        const ATTEMPTS: usize = 32;
        let has_v6 = sys::has_ipv6();
        for attempt in 1.. {
            let (v4, chosen) = Socket::open(Ipv4Addr::UNSPECIFIED.into(), port, fwmark, offload)?;
            let v6 = if has_v6 {
                match Socket::open(Ipv6Addr::UNSPECIFIED.into(), chosen, fwmark, offload) {
                    Ok((v6, _)) => Some(v6),
                    // Free for IPv4 alone: another.
                    Err(failure)
                        if failure.code == Code::PortTaken && port == 0 && attempt < ATTEMPTS =>
                    {
                        continue;
                    }
                    Err(failure) => return Err(failure),
                }
            } else {
                None
            };
            return Ok(Self {
                v4,
                v6,
                port: chosen,
            });
        }
        Err(Failure::new(
            Code::PortTaken,
            "no UDP port is free for both IPv4 and IPv6",
        ))
    }

    /// The socket of IPv4.
    pub fn v4(&self) -> &Socket {
        &self.v4
    }

    /// The socket of IPv6, where there is one.
    pub fn v6(&self) -> Option<&Socket> {
        self.v6.as_ref()
    }

    /// Sends datagrams of `stride` bytes each (the last may be shorter) along a path.
    pub fn send(&self, path: &Path, bytes: &[u8], stride: usize, now: Millis) -> Sent {
        let socket = self.towards(path);
        socket.map_or_else(Sent::default, |socket| {
            socket.send(path, bytes, stride, now)
        })
    }

    /// Sends one datagram if there is room for it now. For what a stranger asked for: a worker does not wait on their account.
    pub fn offer(&self, path: &Path, bytes: &[u8]) -> Sent {
        let mut sent = Sent::default();
        if let Some(socket) = self.towards(path) {
            let outcome =
                socket.send_from_anywhere(&mut { *path }, bytes, None, Duration::ZERO, &mut sent);
            sent.datagrams = usize::from(outcome.is_ok());
        }
        sent
    }

    fn towards(&self, path: &Path) -> Option<&Socket> {
        match path.remote {
            SocketAddr::V4(_) => Some(&self.v4),
            SocketAddr::V6(_) => self.v6.as_ref(),
        }
    }
}

impl Socket {
    fn open(
        address: IpAddr,
        port: u16,
        fwmark: u32,
        offload: Offload,
    ) -> Result<(Self, u16), Failure> {
        let family = if address.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let fd = marked(family, libc::SOCK_DGRAM, fwmark)?;
        let receives_aggregates = set_options(&fd, family, offload)?;
        datagram::bind(&fd, &SocketAddr::new(address, port))
            .map_err(|error| bind_failure(port, &error))?;
        let port =
            datagram::bound_port(&fd).map_err(|error| Failure::call("a UDP port", &error))?;
        let socket = Self {
            fd,
            receives_aggregates,
            gso: Gso::new(offload),
        };
        Ok((socket, port))
    }

    /// Receives a datagram or an aggregate; the buffer has at least `AGGREGATE` bytes.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        datagram::receive(&self.fd, buffer)
    }

    /// Whether several datagrams may come in one call.
    pub fn receives_aggregates(&self) -> bool {
        self.receives_aggregates
    }

    /// Whether several datagrams may leave in one call.
    pub fn sends_aggregates(&self, now: Millis) -> bool {
        self.gso.is_on(now)
    }

    fn send(&self, path: &Path, bytes: &[u8], stride: usize, now: Millis) -> Sent {
        let mut sent = Sent::default();
        let mut path = *path;
        let mut suspicion = None;
        if bytes.len() > stride
            && self.gso.is_on(now)
            && let Ok(segment) = u16::try_from(stride)
        {
            match self.send_from_anywhere(&mut path, bytes, Some(segment), PATIENCE, &mut sent) {
                Ok(()) => {
                    self.gso.worked();
                    sent.datagrams = bytes.len().div_ceil(stride);
                    sent.batched = sent.datagrams;
                    return sent;
                }
                Err(error) if is_about_gso(&error) => suspicion = Some(error),
                Err(_) => return sent, // one by one would not help
            }
        }
        for datagram in bytes.chunks(stride.max(1)) {
            match self.send_from_anywhere(&mut path, datagram, None, PATIENCE, &mut sent) {
                Ok(()) => sent.datagrams += 1,
                // Nothing left in all that time: the rest would wait as long, each.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        // EINVAL may have been about the source.
        if let Some(error) = suspicion
            && sent.loosened.is_none()
            && sent.datagrams > 0
        {
            self.gso.refused(&error, now);
        }
        sent
    }

    /// Sends, and says less about where from as long as the kernel refuses what was said.
    fn send_from_anywhere(
        &self,
        path: &mut Path,
        bytes: &[u8],
        stride: Option<u16>,
        patience: Duration,
        sent: &mut Sent,
    ) -> io::Result<()> {
        loop {
            sent.calls += 1;
            let Err(error) = self.send_patiently(path, bytes, stride, patience) else {
                return Ok(());
            };
            let ambiguous = stride.is_some() && is_about_gso(&error);
            match path.loosened() {
                Some(loosened) if is_about_source(&error) && !ambiguous => {
                    *path = loosened;
                    sent.loosened = Some(loosened);
                }
                _ => return Err(error),
            }
        }
    }

    /// Waits once for room in the socket's buffer.
    fn send_patiently(
        &self,
        path: &Path,
        bytes: &[u8],
        stride: Option<u16>,
        patience: Duration,
    ) -> io::Result<()> {
        match datagram::send(&self.fd, path, bytes, stride) {
            Err(error)
                if !patience.is_zero()
                    && matches!(
                        error.raw_os_error(),
                        Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR)
                    ) =>
            {
                sys::poll([(self.fd.as_fd(), sys::WRITABLE)], Some(patience))?;
                datagram::send(&self.fd, path, bytes, stride)
            }
            outcome => outcome,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that carries a mark before anything else is done with it.
pub fn marked(family: i32, kind: i32, fwmark: u32) -> Result<OwnedFd, Failure> {
    let fd = sys::socket(family, kind, 0).map_err(|error| Failure::call("a socket", &error))?;
    if fwmark != 0 {
        sys::set_option(&fd, libc::SOL_SOCKET, libc::SO_MARK, fwmark as i32).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EPERM) => Failure::new(
                    Code::NoPrivilege,
                    "marking a socket needs CAP_NET_ADMIN: run as root",
                ),
                _ => Failure::call("a socket's mark", &error),
            }
        })?;
    }
    Ok(fd)
}

/// Sets a UDP socket up; whether it receives aggregates.
fn set_options(fd: &OwnedFd, family: i32, offload: Offload) -> Result<bool, Failure> {
    const BUFFER: i32 = 7 << 20;
    let needed =
        |what: &str, outcome: io::Result<()>| outcome.map_err(|error| Failure::call(what, &error));
    for (plain, forced) in [
        (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
        (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
    ] {
        // As much as anybody may have; with CAP_NET_ADMIN, as much as we want.
        let _ = sys::set_option(fd, libc::SOL_SOCKET, plain, BUFFER);
        let _ = sys::set_option(fd, libc::SOL_SOCKET, forced, BUFFER);
    }
    if family == libc::AF_INET {
        needed(
            "IP_PKTINFO",
            sys::set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        )?;
        // An outer packet that is larger than the path may be fragmented.
        let _ = sys::set_option(
            fd,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        );
    } else {
        needed(
            "IPV6_V6ONLY",
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1),
        )?;
        needed(
            "IPV6_RECVPKTINFO",
            sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        )?;
        let _ = sys::set_option(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        );
    }
    // Before 5.12 the kernel joined what it should not have.
    let aggregates = offload == Offload::Auto
        && sys::kernel_version().is_some_and(|version| version >= (5, 12, 0));
    Ok(aggregates && sys::set_option(fd, libc::SOL_UDP, UDP_GRO, 1).is_ok())
}

fn bind_failure(port: u16, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => Failure::new(
            Code::PortTaken,
            format!(
                "UDP port {port} is in use: stop what uses it (see ss -lnup), or choose another port"
            ),
        ),
        Some(libc::EACCES | libc::EPERM) => Failure::new(
            Code::NoPrivilege,
            format!(
                "UDP port {port} needs CAP_NET_BIND_SERVICE: run as root, or choose one above 1023"
            ),
        ),
        _ => Failure::call(&format!("UDP port {port}"), error),
    }
}

/// Whether an error may be about where a datagram was to leave from.
fn is_about_source(error: &io::Error) -> bool {
    const ERRORS: [i32; 6] = [
        libc::EINVAL,
        libc::EADDRNOTAVAIL,
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::ENODEV,
        libc::ENXIO,
    ];
    error
        .raw_os_error()
        .is_some_and(|error| ERRORS.contains(&error))
}

/// How long a send waits for room in the socket's buffer.
const PATIENCE: Duration = Duration::from_millis(5);
const UDP_GRO: i32 = 104;

#[cfg(test)]
#[path = "udp_test.rs"]
mod tests;
