//! A peer's endpoint: where its datagrams go, and from where.

use std::net::{IpAddr, SocketAddr};

/// One value, replaced whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where to.
    pub remote: SocketAddr,
    /// The address of ours that the peer last wrote to; None: the kernel chooses.
    pub source: Option<IpAddr>,
    /// The interface of `source`; 0: the kernel chooses.
    pub interface: u32,
}

impl Path {
    /// To `remote`, from wherever the kernel likes.
    pub fn to(remote: SocketAddr) -> Self {
        Self {
            remote,
            source: None,
            interface: 0,
        }
    }

    /// The same with less said about where from: first the interface is left to the kernel, then the address too. None: nothing
    /// more is said already.
    pub fn loosened(self) -> Option<Self> {
        if self.source.is_some() && self.interface != 0 {
            return Some(Self {
                interface: 0,
                ..self
            });
        }
        self.source.map(|_| self.without_source())
    }

    /// The same, with the source left to the kernel again.
    #[must_use]
    pub fn without_source(self) -> Self {
        Self::to(self.remote)
    }
}
