//! Culvert's data plane behind N-API.
//!
//! TypeScript decides, this carries: see `tunnel/dataplane.ts` for what every call and event means.

pub mod primitives;

mod node_primitives;
