//! The TUN device: opened with a vnet header before every packet, so that the kernel hands over and takes super-packets
//! (linux/if_tun.h, drivers/net/tun.c).

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::AtomicU32;

use crate::checksum::{Sum, pseudo_header};
use crate::failure::{Code, Failure};
use crate::flow::Joins;
use crate::segment::TCP;
use crate::sys::{self, InterfaceRequest};
use crate::vnet::{Gso, VNET, VnetHeader};

/// Whether super-packets are used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// As far as the kernel has them.
    Auto,
    /// Not at all.
    Off,
}

/// A TUN device, or what stands for one.
pub struct Tun {
    file: File,
    /// Super-packets that the kernel takes.
    pub joins: Joins,
    /// Super-packets that the kernel gives.
    pub gives: Joins,
    /// The kernel's queue in front of it, where its length is ours to change.
    pub queue: Option<TxQueue>,
}

/// The queue of packets that wait to be read.
pub struct TxQueue {
    /// The interface.
    pub name: String,
    /// Packets.
    pub length: AtomicU32,
}

impl Tun {
    /// Makes the interface `name`.
    pub fn open(name: &str, offload: Offload) -> Result<Self, Failure> {
        let mut request = InterfaceRequest::named(name).ok_or_else(|| {
            Failure::new(Code::Fault, format!("\"{name}\" cannot name an interface"))
        })?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(no_device)?;
        let fd = OwnedFd::from(file);
        // IFF_TUN_EXCL: never one that somebody else has made.
        let flags =
            (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL) as u16;
        [request.value[0], request.value[1]] = flags.to_ne_bytes();
        sys::interface_ioctl(&fd, TUNSETIFF, &mut request)
            .map_err(|error| refused(name, &error))?;
        let gives =
            set_offload(&fd, offload).map_err(|error| Failure::call("TUN offloads", &error))?;
        let mut tun = Self {
            file: File::from(fd),
            joins: gives,
            gives,
            queue: None,
        };
        if gives.tcp && !tun.takes_super_packets() {
            tun.joins = Joins {
                tcp: false,
                udp: false,
            };
        }
        Ok(tun)
    }

    /// Takes what stands for a TUN: every message on it is a vnet header and a packet.
    pub fn adopt(fd: OwnedFd, offload: Offload) -> Result<Self, Failure> {
        sys::set_nonblocking(&fd).map_err(|error| Failure::call("the TUN descriptor", &error))?;
        let all = offload == Offload::Auto;
        let joins = Joins { tcp: all, udp: all };
        Ok(Self {
            file: File::from(fd),
            joins,
            gives: joins,
            queue: None,
        })
    }

    /// Reads a vnet header and a packet. `WouldBlock`: there is none.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes a vnet header and a packet in parts, as one.
    pub fn write(&self, parts: &[IoSlice]) -> io::Result<()> {
        (&self.file).write_vectored(parts).map(|_| ())
    }

    /// Whether the kernel takes a TCP super-packet. Some kernels of 2024 refuse every one (EINVAL; fixed by
    /// "net: drop bad gso csum_start and offset in virtio_net_hdr", 2024-08). The interface is down yet, so that a good one
    /// ends with EIO and goes nowhere.
    fn takes_super_packets(&self) -> bool {
        let (header, packet) = probe();
        let outcome = self.write(&[IoSlice::new(&header), IoSlice::new(&packet)]);
        !matches!(outcome, Err(error) if error.raw_os_error() == Some(libc::EINVAL))
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl InterfaceRequest {
    /// An empty request for an interface; None when that is no name for one (kernel: dev_valid_name).
    pub fn named(name: &str) -> Option<Self> {
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            value: [0; 24],
        };
        let is_bad = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b':' | b'%');
        let fits = name.len() < libc::IFNAMSIZ
            && !name.bytes().any(is_bad)
            && !matches!(name, "" | "." | "..");
        let place = request.name.get_mut(..name.len())?;
        place.copy_from_slice(name.as_bytes());
        fits.then_some(request)
    }
}

/// Tells the kernel which super-packets to give, and says which it agreed to. The mask outlives us on a persistent
/// device, so that none is set as well.
fn set_offload(fd: &OwnedFd, offload: Offload) -> io::Result<Joins> {
    const CSUM: u64 = 0x01;
    const TSO: u64 = 0x02 | 0x04; // IPv4, IPv6
    const USO: u64 = 0x20 | 0x40; // Linux 6.2, only together
    if offload == Offload::Auto {
        for (mask, udp) in [(CSUM | TSO | USO, true), (CSUM | TSO, false)] {
            if sys::number_ioctl(fd, TUNSETOFFLOAD, mask).is_ok() {
                return Ok(Joins { tcp: true, udp });
            }
        }
    }
    sys::number_ioctl(fd, TUNSETOFFLOAD, 0)?;
    Ok(Joins {
        tcp: false,
        udp: false,
    })
}

/// A TCP super-packet of two segments, between addresses of documentation (RFC 5737), that lives for no hop.
fn probe() -> ([u8; VNET], [u8; 56]) {
    const LENGTH: u8 = 56; // 20 IPv4, 20 TCP, 2 segments of 8
    let mut packet = [0u8; LENGTH as usize];
    packet[0] = 0x45;
    packet[3] = LENGTH;
    packet[9] = TCP;
    [packet[12], packet[13], packet[14], packet[15]] = [192, 0, 2, 1];
    [packet[16], packet[17], packet[18], packet[19]] = [192, 0, 2, 2];
    packet[32] = 5 << 4;
    packet[33] = 0x10; // ACK
    let (ip, rest) = packet.split_at(20);
    let checksum = Sum::new().bytes(ip).finish();
    let addresses = ip.get(12..).unwrap_or_default();
    let partial = pseudo_header(addresses, TCP, rest.len()).folded();
    [packet[10], packet[11]] = checksum;
    [packet[36], packet[37]] = partial;
    let header = VnetHeader {
        gso: Gso::Tcp4(8),
        checksum: Some((20, 16)),
    };
    (header.encode(40), packet)
}

fn no_device(error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Failure::new(
            Code::NoTun,
            "/dev/net/tun is missing: load the module with \"modprobe tun\", or give it to this container",
        ),
        Some(libc::EPERM | libc::EACCES) => Failure::new(
            Code::NoTun,
            "/dev/net/tun may not be opened: run as root, or let this container use the device",
        ),
        _ => Failure::new(
            Code::NoTun,
            format!("/dev/net/tun cannot be opened: {error}"),
        ),
    }
}

fn refused(name: &str, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Failure::new(
            Code::NoPrivilege,
            format!("making the interface {name} needs CAP_NET_ADMIN: run as root"),
        ),
        // EINVAL: an interface of another kind has the name.
        Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => Failure::new(
            Code::NameTaken,
            format!(
                "there is an interface {name} already: stop what made it, or choose another name"
            ),
        ),
        _ => Failure::call(&format!("the interface {name}"), error),
    }
}

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
