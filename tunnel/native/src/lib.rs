//! Culvert's data plane behind N-API.
//!
//! TypeScript decides, this carries: see `tunnel/dataplane.ts` for what every call and event means, and `plane.rs` for how a
//! packet goes. `unsafe` is in `sys.rs`, `datagram.rs`, `keypair.rs`, `checksum.rs` and the N-API cover alone.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)
)]

pub mod allowed_ips;
pub mod batch;
pub mod checksum;
pub mod clock;
pub mod coalesce;
pub mod control;
pub mod counters;
pub mod datagram;
pub mod deadlines;
pub mod events;
pub mod failure;
pub mod flow;
pub mod gate;
pub mod gso;
pub mod inbound;
pub mod index;
pub mod keypair;
pub mod link;
pub mod message;
pub mod outbound;
pub mod packet;
pub mod path;
pub mod peer;
pub mod plane;
pub mod primitives;
pub mod queue;
pub mod replay;
pub mod segment;
pub mod sessions;
pub mod sys;
pub mod timers;
pub mod tun;
pub mod udp;
pub mod vnet;
pub mod worker;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod packets;
// The macros of napi-derive make nothing of a test build.
#[cfg(not(test))]
mod node;
#[cfg(not(test))]
mod node_primitives;
#[cfg(not(test))]
mod node_value;
