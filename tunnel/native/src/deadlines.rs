//! A peer's timers that run once a packet, as pure decisions (paper, 6; kernel: timers.c). What is decided per second, such as
//! the retries of a handshake, is TypeScript's.
//!
//! ```text
//! data sent ─────────▶ reply wanted within 15 s + jitter ──▶ else: a handshake
//! data received ─────▶ something sent within 10 s ─────────▶ else: an empty message
//! anything either way ▶ persistent keepalive: silence of so many seconds ▶ an empty message
//! new session ───────▶ 540 s ──▶ every key is wiped
//! ```

use crate::clock::Millis;
use crate::events::Reason;
use crate::keypair::REJECT_AFTER_TIME;

/// Silence after which what was received is answered (paper, 6.5).
pub const KEEPALIVE_TIMEOUT: Millis = 10_000;
/// Two handshakes of one peer are never closer (paper, 6.4).
pub const REKEY_TIMEOUT: Millis = 5_000;
/// The most that is added so that two sides do not collide for ever.
pub const JITTER: Millis = 333;
/// Age of the last new session at which all keys are wiped (paper, 6.3).
pub const WIPE: Millis = 3 * REJECT_AFTER_TIME;

/// When a peer's timers are due; None: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    keepalive: Option<Millis>,
    /// More data came after that timer was set.
    another: bool,
    reply: Option<Millis>,
    persistent: Option<Millis>,
    wipe: Option<Millis>,
    /// Of the persistent keepalive; 0: none.
    every: Millis,
    /// When a handshake was asked for last, and what has wanted one since, too soon.
    asked: Option<Millis>,
    wanted: Option<Reason>,
    ask: Option<Millis>,
    /// The peer's entry in `Timers`.
    entry: Option<Millis>,
}

/// What is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// An empty message, because data came and nothing went.
    pub keepalive: bool,
    /// And one more after it, because more came meanwhile: `data_received` once the first is sent.
    pub another: bool,
    /// A handshake, because data went and nothing came.
    pub reply: bool,
    /// An empty message, because it is time.
    pub persistent: bool,
    /// All keys are to be wiped.
    pub wipe: bool,
    /// A handshake that was wanted too soon after the last.
    pub ask: Option<Reason>,
}

impl Deadlines {
    /// Data was sent; `jitter` is 0 to JITTER.
    pub fn data_sent(&mut self, now: Millis, jitter: Millis) {
        self.reply
            .get_or_insert(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter);
    }

    /// So many data messages were received, more than none.
    pub fn data_received(&mut self, messages: usize, now: Millis) {
        self.another |= self.keepalive.is_some() || messages > 1;
        self.keepalive.get_or_insert(now + KEEPALIVE_TIMEOUT);
    }

    /// Anything that the peer can authenticate was sent.
    pub fn sent(&mut self, now: Millis) {
        self.keepalive = None;
        self.another = false;
        self.passed(now);
    }

    /// Anything authentic was received.
    pub fn received(&mut self, now: Millis) {
        self.reply = None;
        self.passed(now);
    }

    /// A session began.
    pub fn derived(&mut self, now: Millis) {
        self.wipe = Some(now + WIPE);
        self.settled();
    }

    /// A session may send: whatever wanted a handshake has one.
    pub fn settled(&mut self) {
        self.wanted = None;
        self.ask = None;
    }

    /// The handshake was given up. Keys that are to be wiped sooner still are.
    pub fn gave_up(&mut self, now: Millis) {
        self.keepalive = None;
        self.another = false;
        self.reply = None;
        self.wipe.get_or_insert(now + WIPE);
        if self.wanted == Some(Reason::Staged) {
            self.settled();
        }
    }

    /// A handshake is wanted: true when it may be asked for now. Once in REKEY_TIMEOUT it may; what wants one sooner is
    /// kept until then.
    #[must_use]
    pub fn ask(&mut self, reason: Reason, now: Millis) -> bool {
        let earliest = self.asked.map_or(now, |asked| asked + REKEY_TIMEOUT);
        if earliest > now {
            self.wanted.get_or_insert(reason);
            self.ask = Some(earliest);
            return false;
        }
        self.settled();
        self.asked = Some(now);
        true
    }

    /// Every key is gone: nothing is left to answer, or to wipe.
    pub fn wiped(&mut self) {
        self.keepalive = None;
        self.another = false;
        self.reply = None;
        self.wipe = None;
    }

    /// Sets the persistent keepalive's interval; 0: none.
    pub fn persist(&mut self, every: Millis, now: Millis) {
        if every != self.every {
            self.every = every;
            self.passed(now);
        }
    }

    /// The persistent keepalive's interval; 0: none.
    pub fn every(&self) -> Millis {
        self.every
    }

    /// Takes what is due and sets again what repeats.
    pub fn take_due(&mut self, now: Millis) -> Due {
        let due = Due {
            keepalive: is_due(self.keepalive, now),
            another: is_due(self.keepalive, now) && self.another,
            reply: is_due(self.reply, now),
            persistent: is_due(self.persistent, now),
            wipe: is_due(self.wipe, now),
            ask: if is_due(self.ask, now) {
                self.wanted
            } else {
                None
            },
        };
        if is_due(self.ask, now) {
            self.settled();
        }
        if due.keepalive {
            self.keepalive = None;
            self.another = false;
        }
        if due.reply {
            self.reply = None;
        }
        if due.persistent {
            self.passed(now);
        }
        if due.wipe {
            self.wiped();
        }
        due
    }

    /// The time for which a new entry is to be put into `Timers`, if what is there is not early enough.
    pub fn take_entry(&mut self) -> Option<Millis> {
        let earliest = [
            self.keepalive,
            self.reply,
            self.persistent,
            self.wipe,
            self.ask,
        ]
        .into_iter()
        .flatten()
        .min()?;
        if self.entry.is_some_and(|entry| entry <= earliest) {
            return None;
        }
        self.entry = Some(earliest);
        self.entry
    }

    /// An entry came due; false: an earlier one has taken its place.
    pub fn is_entry(&mut self, time: Millis) -> bool {
        let is = self.entry == Some(time);
        if is {
            self.entry = None;
        }
        is
    }

    /// Something went either way.
    fn passed(&mut self, now: Millis) {
        self.persistent = (self.every > 0).then(|| now + self.every);
    }
}

fn is_due(deadline: Option<Millis>, now: Millis) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Due = Due {
        keepalive: false,
        another: false,
        reply: false,
        persistent: false,
        wipe: false,
        ask: None,
    };

    #[test]
    fn data_that_is_not_answered_for_10_s_is_answered_once() {
        let mut timers = Deadlines::default();
        timers.data_received(1, 0);
        assert_eq!(timers.take_due(9_999), NOTHING);
        let keepalive = Due {
            keepalive: true,
            ..NOTHING
        };
        assert_eq!(timers.take_due(10_000), keepalive);
        timers.sent(10_000);
        assert_eq!(timers.take_due(60_000), NOTHING);
    }

    #[test]
    fn more_data_meanwhile_is_answered_once_more() {
        let mut timers = Deadlines::default();
        timers.data_received(1, 0);
        timers.data_received(1, 5_000);
        let keepalive = Due {
            keepalive: true,
            ..NOTHING
        };
        assert_eq!(
            timers.take_due(10_000),
            Due {
                another: true,
                ..keepalive
            }
        );
        timers.sent(10_000);
        timers.data_received(1, 10_000);
        assert_eq!(timers.take_due(20_000), keepalive);
        timers.sent(20_000);
        assert_eq!(timers.take_due(60_000), NOTHING);
        timers.data_received(2, 60_000);
        assert!(timers.take_due(70_000).another);
    }

    #[test]
    fn whatever_is_sent_answers_the_data() {
        let mut timers = Deadlines::default();
        timers.data_received(1, 0);
        timers.sent(9_999);
        assert_eq!(timers.take_due(60_000), NOTHING);
    }

    #[test]
    fn data_without_a_reply_asks_for_a_handshake_after_15_s_and_jitter() {
        let mut timers = Deadlines::default();
        timers.data_sent(0, 100);
        timers.data_sent(5_000, 0);
        assert_eq!(timers.take_due(15_099), NOTHING);
        assert_eq!(
            timers.take_due(15_100),
            Due {
                reply: true,
                ..NOTHING
            }
        );
        timers.data_sent(20_000, 0);
        timers.received(34_999);
        assert_eq!(timers.take_due(60_000), NOTHING);
    }

    #[test]
    fn a_persistent_keepalive_waits_for_silence_and_repeats() {
        let mut timers = Deadlines::default();
        timers.persist(25_000, 0);
        timers.received(20_000);
        timers.persist(25_000, 30_000); // the same again changes nothing
        assert_eq!(timers.take_due(44_999), NOTHING);
        let persistent = Due {
            persistent: true,
            ..NOTHING
        };
        assert_eq!(timers.take_due(45_000), persistent);
        assert_eq!(timers.take_due(70_000), persistent);
        timers.persist(0, 70_000);
        assert_eq!(timers.take_due(900_000), NOTHING);
    }

    #[test]
    fn keys_are_wiped_540_s_after_the_last_session() {
        let mut timers = Deadlines::default();
        timers.derived(0);
        timers.derived(100_000);
        assert_eq!(timers.take_due(639_999), NOTHING);
        assert_eq!(
            timers.take_due(640_000),
            Due {
                wipe: true,
                ..NOTHING
            }
        );
        assert_eq!(timers.take_due(9_000_000), NOTHING);
    }

    #[test]
    fn a_handshake_is_asked_for_once_in_5_s_and_what_came_too_soon_after_that() {
        let mut timers = Deadlines::default();
        assert!(timers.ask(Reason::Staged, 0));
        assert!(!timers.ask(Reason::NoReply, 1_000));
        assert!(!timers.ask(Reason::Age, 4_999));
        assert_eq!(timers.take_due(4_999), NOTHING);
        let ask = Some(Reason::NoReply);
        assert_eq!(timers.take_due(5_000), Due { ask, ..NOTHING });
        assert!(timers.ask(Reason::NoReply, 5_000));
        assert!(!timers.ask(Reason::Staged, 6_000));
        timers.derived(7_000);
        assert_eq!(timers.take_due(60_000), NOTHING);
    }

    #[test]
    fn has_one_entry_for_the_earliest() {
        let mut timers = Deadlines::default();
        timers.derived(0);
        assert_eq!(timers.take_entry(), Some(WIPE));
        timers.data_received(1, 0);
        assert_eq!(timers.take_entry(), Some(10_000));
        timers.sent(1);
        assert_eq!(timers.take_entry(), None);
        assert!(!timers.is_entry(WIPE));
        assert!(timers.is_entry(10_000));
        assert_eq!(timers.take_entry(), Some(WIPE));
    }
}
