//! A peer's three sessions and how they follow each other (paper, 5.4.5 and 6.1; kernel: noise.c, add_new_keypair).
//!
//! ```text
//! we began      new ─▶ current ─▶ previous       a waiting `next` becomes previous instead
//! they began    new ─▶ next ─▶ (first data) ─▶ current ─▶ previous
//! ```
//! All three receive until they expire; only `current` sends.

use std::sync::Arc;

use crate::clock::Millis;
use crate::keypair::{Keypair, Role};

/// The three.
#[derive(Default)]
pub struct Sessions {
    current: Option<Arc<Keypair>>,
    previous: Option<Arc<Keypair>>,
    next: Option<Arc<Keypair>>,
}

/// What was pushed out: its indices are to be given up.
pub type Gone = [Option<Arc<Keypair>>; 3];

impl Sessions {
    /// Takes a new session.
    pub fn install(&mut self, keypair: Arc<Keypair>) -> Gone {
        match keypair.role {
            Role::Initiator => match self.next.take() {
                Some(next) => {
                    let gone = [self.previous.replace(next), self.current.replace(keypair)];
                    let [previous, current] = gone;
                    [previous, current, None]
                }
                None => {
                    let old = self.current.replace(keypair);
                    [std::mem::replace(&mut self.previous, old), None, None]
                }
            },
            Role::Responder => [self.next.replace(keypair), self.previous.take(), None],
        }
    }

    /// The peer has proved that it holds `keypair`: if that is `next`, it becomes `current`.
    pub fn confirm(&mut self, keypair: &Arc<Keypair>) -> Option<Gone> {
        if !self
            .next
            .as_ref()
            .is_some_and(|next| Arc::ptr_eq(next, keypair))
        {
            return None;
        }
        let next = self.next.take();
        let old = std::mem::replace(&mut self.current, next);
        Some([std::mem::replace(&mut self.previous, old), None, None])
    }

    /// The session that may send now.
    pub fn sending(&self, now: Millis) -> Option<&Arc<Keypair>> {
        self.current
            .as_ref()
            .filter(|keypair| keypair.can_send(now))
    }

    /// The session that sends, or that sent until it ended.
    pub fn current(&self) -> Option<&Arc<Keypair>> {
        self.current.as_ref()
    }

    /// `current` and `next` send no more.
    pub fn forbid_sending(&self) {
        for keypair in [&self.current, &self.next].into_iter().flatten() {
            keypair.forbid_sending();
        }
    }

    /// Gives all of them up.
    pub fn clear(&mut self) -> Gone {
        [self.current.take(), self.previous.take(), self.next.take()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keypair(index: u32, role: Role) -> Arc<Keypair> {
        Arc::new(Keypair::new(index, 0, role, 0, &[1; 32], &[2; 32]).unwrap())
    }

    fn indices(list: impl IntoIterator<Item = Option<Arc<Keypair>>>) -> Vec<u32> {
        list.into_iter()
            .flatten()
            .map(|keypair| keypair.index)
            .collect()
    }

    /// Previous, current, next.
    fn state(sessions: &Sessions) -> [Option<u32>; 3] {
        [&sessions.previous, &sessions.current, &sessions.next]
            .map(|slot| slot.as_ref().map(|keypair| keypair.index))
    }

    #[test]
    fn an_initiators_session_is_current_at_once() {
        let mut sessions = Sessions::default();
        let gone: Vec<Vec<u32>> = (1..=3)
            .map(|index| indices(sessions.install(keypair(index, Role::Initiator))))
            .collect();
        assert_eq!(gone, [vec![], vec![], vec![1]]);
        assert_eq!(state(&sessions), [Some(2), Some(3), None]);
    }

    #[test]
    fn a_responders_session_waits_for_its_first_data() {
        let mut sessions = Sessions::default();
        let (first, second) = (keypair(1, Role::Responder), keypair(2, Role::Responder));
        assert_eq!(indices(sessions.install(first.clone())), []);
        assert!(sessions.sending(0).is_none());
        assert!(sessions.confirm(&first).is_some());
        assert!(sessions.confirm(&first).is_none());
        assert_eq!(indices(sessions.install(second.clone())), []);
        assert_eq!(state(&sessions), [None, Some(1), Some(2)]);
        assert!(sessions.confirm(&second).is_some());
        assert_eq!(state(&sessions), [Some(1), Some(2), None]);
    }

    #[test]
    fn a_new_responders_session_pushes_out_previous_and_the_old_next() {
        let mut sessions = Sessions::default();
        sessions.install(keypair(1, Role::Initiator));
        sessions.install(keypair(2, Role::Initiator));
        assert_eq!(indices(sessions.install(keypair(3, Role::Responder))), [1]);
        assert_eq!(indices(sessions.install(keypair(4, Role::Responder))), [3]);
        assert_eq!(state(&sessions), [None, Some(2), Some(4)]);
    }

    #[test]
    fn our_own_session_makes_previous_of_a_waiting_next() {
        let mut sessions = Sessions::default();
        sessions.install(keypair(1, Role::Initiator));
        sessions.install(keypair(2, Role::Responder));
        assert_eq!(indices(sessions.install(keypair(3, Role::Initiator))), [1]);
        assert_eq!(state(&sessions), [Some(2), Some(3), None]);
    }

    #[test]
    fn a_forbidden_session_receives_but_does_not_send() {
        let mut sessions = Sessions::default();
        sessions.install(keypair(1, Role::Initiator));
        sessions.forbid_sending();
        assert!(sessions.sending(0).is_none());
        assert_eq!(state(&sessions), [None, Some(1), None]);
    }
}
