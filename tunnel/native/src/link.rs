//! The interface's settings, all by one rtnetlink message (RTM_NEWLINK): MTU, queue length, and the limits of the
//! super-packets that the kernel makes for it.

use std::io;
use std::os::fd::OwnedFd;

use crate::failure::{Code, Failure};
use crate::sys;

/// What is set; None stays as the kernel has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkSettings {
    /// In bytes.
    pub mtu: Option<u32>,
    /// Super-packets that wait for us: latency under load against throughput.
    pub queue_length: Option<u32>,
    /// Segments of one super-packet.
    pub gso_segments: Option<u32>,
    /// Bytes of one super-packet.
    pub gso_bytes: Option<u32>,
}

impl LinkSettings {
    /// Sets them on the interface `name`.
    pub fn apply(&self, name: &str) -> Result<(), Failure> {
        let settings = [
            (IFLA_MTU, self.mtu),
            (IFLA_TXQLEN, self.queue_length),
            (IFLA_GSO_MAX_SEGS, self.gso_segments),
            (IFLA_GSO_MAX_SIZE, self.gso_bytes),
        ];
        let message = encode(name, &settings);
        change(&message).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => Failure::new(
                Code::NoPrivilege,
                format!("setting up the interface {name} needs CAP_NET_ADMIN: run as root"),
            ),
            Some(libc::EINVAL | libc::ERANGE) => Failure::new(
                Code::Fault,
                format!(
                    "the kernel refused an MTU of {} for {name}",
                    self.mtu.unwrap_or(0)
                ),
            ),
            _ => Failure::call(&format!("the settings of {name}"), &error),
        })
    }
}

/// nlmsghdr, ifinfomsg and attributes (rtnetlink(7)).
fn encode(name: &str, settings: &[(u16, Option<u32>)]) -> Vec<u8> {
    let mut message = vec![0u8; 16 + 16]; // ifinfomsg: any family, index 0 (the name decides), no flags
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    attribute(&mut message, IFLA_IFNAME, &text);
    for (kind, value) in settings {
        if let Some(value) = value {
            attribute(&mut message, *kind, &value.to_ne_bytes());
        }
    }
    let length = message.len() as u32;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let header = [
        length.to_ne_bytes().as_slice(),
        libc::RTM_NEWLINK.to_ne_bytes().as_slice(),
        flags.to_ne_bytes().as_slice(),
        1u32.to_ne_bytes().as_slice(), // sequence
        0u32.to_ne_bytes().as_slice(), // from the kernel's point of view, us
    ]
    .concat();
    if let Some(place) = message.get_mut(..header.len()) {
        place.copy_from_slice(&header);
    }
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    message.extend_from_slice(&(4 + payload.len() as u16).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(payload);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Sends the message and reads the kernel's answer: nlmsghdr and an errno, 0 for done.
fn change(message: &[u8]) -> io::Result<()> {
    let socket: OwnedFd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    sys::send(&socket, message)?;
    let mut answer = [0u8; 1024];
    let length = sys::receive(&socket, &mut answer)?; // the kernel answers before `send` returns
    let code = answer
        .get(16..length)
        .and_then(|rest| rest.first_chunk::<4>());
    match code.map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_GSO_MAX_SEGS: u16 = 40;
const IFLA_GSO_MAX_SIZE: u16 = 41;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_the_length_is_the_whole() {
        let message = encode("tun0", &[(IFLA_MTU, Some(1420)), (IFLA_TXQLEN, None)]);
        let expected: Vec<u8> = [
            52u32.to_ne_bytes().as_slice(),
            &16u16.to_ne_bytes(),
            &5u16.to_ne_bytes(),
            &1u32.to_ne_bytes(),
            &[0; 20],
            &[9, 0, 3, 0, b't', b'u', b'n', b'0', 0, 0, 0, 0],
            &[8, 0, 4, 0],
            &1420u32.to_ne_bytes(),
        ]
        .concat();
        assert_eq!(message[..], expected[..]);
    }
}
