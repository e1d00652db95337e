//! What crosses between JavaScript and the data plane, as values: addresses as 4 or 16 bytes, events and totals as objects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::Uint8ArraySlice;
use napi::{Env, Error};
use napi_derive::napi;

use crate::counters::Traffic;
use crate::events::Event;
use crate::packet::Address;
use crate::path::Path;
use crate::peer::Peer;

/// How a data plane is opened.
#[napi(object)]
pub struct NodeOptions {
    /// The interface to make; without it `fd` is there.
    pub name: Option<String>,
    /// What stands for a TUN: messages of vnet header and packet. It is duplicated.
    pub fd: Option<i32>,
    /// Of the TUN, in bytes.
    pub mtu: u32,
    /// 0: any.
    pub port: u16,
    /// 0: none.
    pub fwmark: u32,
    /// "auto" or "off".
    pub gso: String,
    /// Packets that the interface queues; not given: it follows their size.
    pub tx_queue_length: Option<u32>,
    /// Whether the kernel's super-packets are limited to what one send takes.
    pub limit_super_packets: Option<bool>,
}

/// A path.
#[napi(object)]
pub struct NodePath<'a> {
    /// 4 or 16 bytes.
    pub address: Uint8ArraySlice<'a>,
    /// Its port.
    pub port: u16,
    /// 4 or 16 bytes; not given: the kernel chooses.
    pub source: Option<Uint8ArraySlice<'a>>,
    /// 0: the kernel chooses.
    pub interface_index: u32,
}

/// A prefix.
#[napi(object)]
pub struct NodePrefix<'a> {
    /// 4 or 16 bytes.
    pub address: Uint8ArraySlice<'a>,
    /// In bits.
    pub length: u8,
}

/// An event: which of the fields are there, its tag says.
#[napi(object, object_from_js = false)]
pub struct NodeEvent<'a> {
    /// As in `DataplaneEvent`.
    pub tag: &'static str,
    /// A handshake message.
    pub message: Option<Uint8ArraySlice<'a>>,
    /// Where it came from.
    pub from: Option<NodePath<'a>>,
    /// A peer's number.
    pub peer: Option<u32>,
    /// A local index.
    pub index: Option<u32>,
    /// Why a handshake is wanted.
    pub reason: Option<&'static str>,
    /// What went wrong.
    pub text: Option<String>,
}

/// Totals one way.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct NodeTraffic {
    /// UDP datagrams.
    pub datagrams: i64,
    /// Inner packets.
    pub packets: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Datagrams that shared a call.
    pub batched: i64,
    /// Calls.
    pub calls: i64,
}

/// All totals.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct NodeCounters {
    /// UDP to TUN.
    pub received: NodeTraffic,
    /// TUN to UDP.
    pub sent: NodeTraffic,
    /// Cookie replies.
    pub cookies: i64,
    /// In the order of `dropReasons`.
    pub dropped: Vec<i64>,
}

/// A peer's totals.
#[napi(object, object_from_js = false)]
pub struct NodePeerCounters<'a> {
    /// Of authentic datagrams.
    pub rx_bytes: i64,
    /// Of what we sent.
    pub tx_bytes: i64,
    /// Where it is.
    pub path: Option<NodePath<'a>>,
    /// Milliseconds ago.
    pub since_received: Option<i64>,
    /// Milliseconds ago.
    pub since_sent: Option<i64>,
    /// Whether a session can send.
    pub alive: bool,
}

/// Who holds the other end of a Unix socket.
#[napi(object, object_from_js = false)]
pub struct NodeCredentials {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An event; None: of a peer that is gone.
pub fn node_event<'a>(env: &'a Env, event: Event) -> napi::Result<Option<NodeEvent<'a>>> {
    let bytes = |message: Vec<u8>| Uint8ArraySlice::copy_from(env, message).map(Some);
    let base = |tag: &'static str| NodeEvent {
        tag,
        message: None,
        from: None,
        peer: None,
        index: None,
        reason: None,
        text: None,
    };
    let of = |tag: &'static str, peer: &Arc<Peer>| NodeEvent {
        peer: Some(peer.id),
        ..base(tag)
    };
    let event = match event {
        Event::Initiation(message, from) => NodeEvent {
            message: bytes(message)?,
            from: Some(node_path(env, &from)?),
            ..base("initiation")
        },
        Event::Response(message, index, peer, from) if !peer.is_removed() => NodeEvent {
            message: bytes(message)?,
            index: Some(index),
            from: Some(node_path(env, &from)?),
            ..of("response", &peer)
        },
        Event::Cookie(message, index, peer) if !peer.is_removed() => NodeEvent {
            message: bytes(message)?,
            index: Some(index),
            ..of("cookie", &peer)
        },
        Event::NeedHandshake(peer, reason) => {
            peer.need_told.store(false, Ordering::Release);
            if peer.is_removed() {
                return Ok(None);
            }
            NodeEvent {
                reason: Some(reason.name()),
                ..of("need-handshake", &peer)
            }
        }
        Event::Confirmed(peer, index) if !peer.is_removed() => NodeEvent {
            index: Some(index),
            ..of("confirmed", &peer)
        },
        Event::Roamed(peer) => {
            peer.roam_told.store(false, Ordering::Release);
            if peer.is_removed() {
                return Ok(None); // a last datagram may have given it a path again
            }
            let path = peer.state().path;
            let Some(path) = path else { return Ok(None) };
            NodeEvent {
                from: Some(node_path(env, &path)?),
                ..of("roamed", &peer)
            }
        }
        Event::Expired(peer) if !peer.is_removed() => of("expired", &peer),
        Event::Fault(text) => NodeEvent {
            text: Some(text),
            ..base("fault")
        },
        _ => return Ok(None), // of a peer that is gone
    };
    Ok(Some(event))
}

/// A path for JavaScript.
pub fn node_path<'a>(env: &'a Env, path: &Path) -> napi::Result<NodePath<'a>> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => Uint8ArraySlice::copy_from(env, ip.octets()),
        IpAddr::V6(ip) => Uint8ArraySlice::copy_from(env, ip.octets()),
    };
    Ok(NodePath {
        address: bytes(path.remote.ip())?,
        port: path.remote.port(),
        source: path.source.map(bytes).transpose()?,
        interface_index: path.interface,
    })
}

/// A path of JavaScript's.
pub fn path_of(path: &NodePath) -> napi::Result<Path> {
    let remote = match ip_of(&path.address)? {
        // A link-local address is one only on its link.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, path.port, 0, path.interface_index).into()
        }
        ip => SocketAddr::new(ip, path.port),
    };
    Ok(Path {
        remote,
        source: path
            .source
            .as_ref()
            .map(|source| ip_of(source))
            .transpose()?,
        interface: path.interface_index,
    })
}

fn ip_of(bytes: &[u8]) -> napi::Result<IpAddr> {
    match Address::from_bytes(bytes) {
        Some(Address::V4(bits)) => Ok(Ipv4Addr::from(bits).into()),
        Some(Address::V6(bits)) => Ok(Ipv6Addr::from(bits).into()),
        None => Err(invalid("an address has 4 or 16 bytes")),
    }
}

/// Totals one way.
pub fn traffic(traffic: &Traffic) -> NodeTraffic {
    NodeTraffic {
        datagrams: total(&traffic.datagrams),
        packets: total(&traffic.packets),
        bytes: total(&traffic.bytes),
        batched: total(&traffic.batched),
        calls: total(&traffic.calls),
    }
}

/// One total.
pub fn total(counter: &AtomicU64) -> i64 {
    counter.load(Ordering::Relaxed) as i64
}

/// An argument that the caller should not have given.
pub fn invalid(message: &str) -> Error {
    Error::new(napi::Status::InvalidArg, message)
}
