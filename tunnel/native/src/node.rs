//! The data plane as JavaScript holds it. Addresses cross as 4 or 16 bytes, failures as errors with a `code`.

use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;

use napi::bindgen_prelude::{Function, Uint8ArraySlice};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, Error};
use napi_derive::napi;
use zeroize::Zeroize;

use crate::allowed_ips::Prefix;
use crate::control::SessionKeys;
use crate::failure::{Code, Failure};
use crate::gate::Settings;
use crate::keypair::Role;
use crate::link::LinkSettings;
use crate::node_primitives::key;
use crate::node_value::{
    NodeCounters, NodeCredentials, NodeEvent, NodeOptions, NodePath, NodePeerCounters, NodePrefix,
    invalid, node_event, node_path, path_of, total, traffic,
};
use crate::packet::Address;
use crate::plane::Plane;
use crate::tun::{Offload, Tun, TxQueue};
use crate::udp::{MOST_BYTES, Udp, marked};
use crate::worker::Workers;
use crate::{batch, queue, sys};

/// A data plane. After `stop` it does nothing.
#[napi]
pub struct NodePlane {
    /// None: stopped.
    plane: Option<Arc<Plane>>,
    workers: Option<Workers>,
    port: u16,
    offloads: Vec<&'static str>,
}

#[napi]
impl NodePlane {
    /// Opens the TUN and the UDP port. @throws with a code of `TunnelErrorCode`.
    #[napi(factory)]
    pub fn open(options: NodeOptions) -> napi::Result<Self, Code> {
        let offload = if options.gso == "off" {
            Offload::Off
        } else {
            Offload::Auto
        };
        let udp = Udp::open(options.port, options.fwmark, offload)?;
        let tun = open_tun(&options, offload)?;
        let (port, offloads) = (udp.port, offloads(&tun, &udp));
        let plane = Arc::new(Plane::new(tun, udp, options.mtu as usize)?);
        Ok(Self {
            plane: Some(plane),
            workers: None,
            port,
            offloads,
        })
    }

    /// The UDP port.
    #[napi(getter)]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the kernel agreed to.
    #[napi(getter)]
    pub fn offloads(&self) -> Vec<&'static str> {
        self.offloads.clone()
    }

    /// Whom to call once the event list has stopped being empty. It does not keep the process alive.
    #[napi]
    pub fn on_wake(&self, listener: Function<'_, (), ()>) -> napi::Result<()> {
        let function = listener
            .build_threadsafe_function()
            .weak::<true>()
            .build()?;
        let wake = Box::new(move || {
            function.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        self.with(|plane| plane.events.on_wake(Some(wake)));
        Ok(())
    }

    /// Begins to carry.
    #[napi]
    pub fn start(&mut self) -> napi::Result<(), Code> {
        if let (None, Some(plane)) = (&self.workers, &self.plane) {
            self.workers = Some(Workers::start(plane)?);
        }
        Ok(())
    }

    /// Ends the workers, closes the TUN and the sockets, wipes every key, and wakes nobody any more.
    #[napi]
    pub fn stop(&mut self) {
        self.workers = None; // waits for them
        self.plane = None; // nobody else has it then
    }

    /// Whether every worker waits and nothing waits for one: for tests.
    #[napi(getter)]
    pub fn is_idle(&self) -> bool {
        self.workers.as_ref().is_none_or(Workers::are_idle)
    }

    /// Takes events, oldest first.
    #[napi]
    pub fn drain<'a>(&self, env: &'a Env, most: u32) -> napi::Result<Vec<NodeEvent<'a>>> {
        let mut events = Vec::new();
        while events.len() < most as usize {
            let Some(event) = self.with(|plane| plane.events.take()) else {
                break;
            };
            events.extend(node_event(env, event)?);
        }
        Ok(events)
    }

    /// Sets whose mac1 passes.
    #[napi]
    pub fn set_identity(&self, public_key: Uint8ArraySlice<'_>) -> napi::Result<()> {
        let key = key(&public_key)?;
        self.with(|plane| plane.gate().set_identity(&key));
        Ok(())
    }

    /// Sets how strangers are rationed.
    #[napi]
    pub fn set_gate(&self, under_load_at: u32, per_second: f64, burst: f64, silent: bool) {
        let settings = Settings {
            under_load_at: under_load_at as usize,
            per_second,
            burst,
            silent,
        };
        self.with(|plane| plane.gate().set(settings));
    }

    /// Adds or changes a peer.
    #[napi]
    pub fn put_peer(&self, peer: u32, persistent_keepalive: u32) {
        self.with(|plane| plane.put_peer(peer, u64::from(persistent_keepalive) * 1000));
    }

    /// Forgets a peer.
    #[napi]
    pub fn remove_peer(&self, peer: u32) {
        self.with(|plane| plane.remove_peer(peer));
    }

    /// Replaces a peer's prefixes.
    #[napi]
    pub fn set_allowed_ips(&self, peer: u32, prefixes: Vec<NodePrefix<'_>>) -> napi::Result<()> {
        let prefixes: Option<Vec<Prefix>> = prefixes
            .iter()
            .map(|prefix| Prefix::new(Address::from_bytes(&prefix.address)?, prefix.length))
            .collect();
        let prefixes = prefixes.ok_or_else(|| invalid("a prefix has an address and a length"))?;
        self.with(|plane| plane.set_allowed_ips(peer, prefixes));
        Ok(())
    }

    /// Replaces a peer's path.
    #[napi]
    pub fn set_path(
        &self,
        peer: u32,
        path: Option<NodePath<'_>>,
        pinned: bool,
    ) -> napi::Result<()> {
        let path = path.as_ref().map(path_of).transpose()?;
        self.with(|plane| plane.set_path(peer, path, pinned));
        Ok(())
    }

    /// Lets the kernel choose the source again.
    #[napi]
    pub fn clear_source(&self, peer: u32) {
        self.with(|plane| plane.clear_source(peer));
    }

    /// A fresh random index.
    #[napi]
    pub fn allocate_index(&self, peer: u32) -> napi::Result<u32> {
        let Some(plane) = &self.plane else {
            return Ok(0);
        };
        plane
            .allocate_index(peer)
            .ok_or_else(|| Error::from_reason("the kernel gave no random bytes"))
    }

    /// Gives up an index.
    #[napi]
    pub fn free_index(&self, index: u32) {
        self.with(|plane| plane.free_index(index));
    }

    /// Makes an index a session, and wipes the keys that it was given.
    #[napi]
    pub fn install_session(
        &self,
        peer: u32,
        index: u32,
        remote_index: u32,
        mut send_key: Uint8ArraySlice<'_>,
        mut receive_key: Uint8ArraySlice<'_>,
        is_initiator: bool,
    ) -> napi::Result<bool> {
        let (send, receive) = (key(&send_key)?, key(&receive_key)?);
        // SAFETY: JavaScript waits for this call: nobody else reads or writes its arrays now.
        unsafe { send_key.as_mut() }.zeroize();
        // SAFETY: as above; if both are one array, the borrow before has ended.
        unsafe { receive_key.as_mut() }.zeroize();
        let keys = SessionKeys {
            remote: remote_index,
            send: &send,
            receive: &receive,
            role: if is_initiator {
                Role::Initiator
            } else {
                Role::Responder
            },
        };
        Ok(self.with(|plane| plane.install_session(peer, index, &keys)))
    }

    /// Wipes a peer's sessions.
    #[napi]
    pub fn wipe_sessions(&self, peer: u32) {
        self.with(|plane| plane.wipe_sessions(peer));
    }

    /// A peer's sessions send no more.
    #[napi]
    pub fn forbid_sending(&self, peer: u32) {
        self.with(|plane| plane.forbid_sending(peer));
    }

    /// Sends a handshake message to a peer.
    #[napi]
    pub fn send_handshake(&self, peer: u32, message: Uint8ArraySlice<'_>) {
        self.with(|plane| plane.send_handshake(peer, &message));
    }

    /// Sends a handshake message back.
    #[napi]
    pub fn reply(&self, to: NodePath<'_>, message: Uint8ArraySlice<'_>) -> napi::Result<()> {
        let to = path_of(&to)?;
        self.with(|plane| plane.reply(&to, &message));
        Ok(())
    }

    /// Sends a keepalive.
    #[napi]
    pub fn keepalive(&self, peer: u32) {
        self.with(|plane| plane.keepalive(peer));
    }

    /// Sends what waited.
    #[napi]
    pub fn flush_staged(&self, peer: u32) -> u32 {
        self.with(|plane| plane.flush_staged(peer)) as u32
    }

    /// The handshake was given up.
    #[napi]
    pub fn give_up(&self, peer: u32) {
        self.with(|plane| plane.give_up(peer));
    }

    /// All totals.
    #[napi]
    pub fn counters(&self) -> NodeCounters {
        self.with(|plane| NodeCounters {
            received: traffic(&plane.counters.received),
            sent: traffic(&plane.counters.sent),
            cookies: total(&plane.counters.cookies),
            dropped: plane
                .counters
                .dropped()
                .iter()
                .map(|&count| count as i64)
                .collect(),
        })
    }

    /// A peer's totals.
    #[napi]
    pub fn peer_counters<'a>(
        &self,
        env: &'a Env,
        peer: u32,
    ) -> napi::Result<Option<NodePeerCounters<'a>>> {
        let Some(counters) = self.with(|plane| plane.peer_counters(peer)) else {
            return Ok(None);
        };
        Ok(Some(NodePeerCounters {
            rx_bytes: counters.received as i64,
            tx_bytes: counters.sent as i64,
            path: counters
                .path
                .map(|path| node_path(env, &path))
                .transpose()?,
            since_received: counters.since_received.map(|ago| ago as i64),
            since_sent: counters.since_sent.map(|ago| ago as i64),
            alive: counters.alive,
        }))
    }

    /// Moves the clock forward.
    #[napi]
    pub fn advance(&self, milliseconds: u32) {
        self.with(|plane| plane.advance(u64::from(milliseconds)));
    }

    /// Asks the plane, which answers nothing once it is stopped.
    fn with<T: Default>(&self, ask: impl FnOnce(&Plane) -> T) -> T {
        self.plane
            .as_ref()
            .map(|plane| ask(plane))
            .unwrap_or_default()
    }
}

/// Who holds the other end of a Unix socket, as it was when it connected.
#[napi]
pub fn peer_credentials(fd: i32) -> napi::Result<NodeCredentials> {
    let credentials = sys::peer_credentials(fd).map_err(|error| {
        Error::from_reason(format!("descriptor {fd} has no peer credentials: {error}"))
    })?;
    Ok(NodeCredentials {
        pid: credentials.pid,
        uid: credentials.uid,
        gid: credentials.gid,
    })
}

/// A marked socket; whoever called owns it.
#[napi]
pub fn marked_socket(family: u32, kind: String, mark: u32) -> napi::Result<RawFd, Code> {
    let family = if family == 6 {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    let kind = if kind == "tcp" {
        libc::SOCK_STREAM
    } else {
        libc::SOCK_DGRAM
    };
    Ok(marked(family, kind, mark)?.into_raw_fd())
}

/// Two connected ends of packets; whoever called owns both.
#[napi]
pub fn packet_pair() -> napi::Result<Vec<RawFd>, Code> {
    let (a, b) = sys::packet_pair().map_err(|error| Failure::call("a pair of sockets", &error))?;
    Ok(vec![a.into_raw_fd(), b.into_raw_fd()])
}

impl From<Failure> for Error<Code> {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code, failure.message)
    }
}

fn open_tun(options: &NodeOptions, offload: Offload) -> Result<Tun, Failure> {
    let Some(name) = &options.name else {
        let fd = sys::duplicate(options.fd.unwrap_or(-1))
            .map_err(|error| Failure::call("the TUN descriptor", &error))?;
        return Tun::adopt(fd, offload);
    };
    let mut tun = Tun::open(name, offload)?;
    let datagram = batch::padded_length(options.mtu as usize, options.mtu as usize) + 32;
    let segments = (MOST_BYTES / datagram).max(1) as u32;
    let limited = offload == Offload::Auto && options.limit_super_packets == Some(true);
    let settings = LinkSettings {
        mtu: Some(options.mtu),
        queue_length: Some(options.tx_queue_length.unwrap_or(queue::MOST)),
        gso_segments: limited.then_some(segments),
        gso_bytes: limited.then_some(segments * options.mtu),
    };
    settings.apply(name)?;
    if options.tx_queue_length.is_none() {
        tun.queue = Some(TxQueue {
            name: name.clone(),
            length: queue::MOST.into(),
        });
    }
    Ok(tun)
}

fn offloads(tun: &Tun, udp: &Udp) -> Vec<&'static str> {
    [
        ("tso", tun.gives.tcp),
        ("uso", tun.gives.udp),
        ("tun-gro", tun.joins.tcp),
        ("tun-udp-gro", tun.joins.udp),
        ("udp-gso", udp.v4().sends_aggregates(0)),
        ("udp-gro", udp.v4().receives_aggregates()),
        ("ipv6", udp.v6().is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is)| is.then_some(name))
    .collect()
}
