//! The replay window (RFC 6479): which of the last counters of a session have been seen, as a ring of bits.
//!
//! The kernel's size: 8192 bits, of which 8128 are the window, because a ring can only be cleared a word at a time.

use crate::keypair::REJECT_AFTER_MESSAGES;

const WORD: u64 = 64;
const WORDS: usize = 128;
/// How far behind the newest counter one may be (kernel: COUNTER_WINDOW_SIZE).
pub const WINDOW: u64 = WORDS as u64 * WORD - WORD;

/// The window of one session. Ask it only about messages that the AEAD has accepted: a forged counter must not move it.
pub struct Replay {
    /// One more than the greatest counter seen; 0 before the first.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            next: 0,
            seen: [0; WORDS],
        }
    }
}

impl Replay {
    /// Whether a counter is certainly to be refused: a cheap look before the AEAD's work.
    pub fn refuses(&self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return true;
        }
        if counter >= self.next {
            return false;
        }
        self.next - counter > WINDOW + 1 || self.word(counter) & bit(counter) != 0
    }

    /// Takes a counter: true the first time, false when it was seen before or is too old.
    #[must_use]
    pub fn accept(&mut self, counter: u64) -> bool {
        if self.refuses(counter) {
            return false;
        }
        if counter >= self.next {
            // The words between the newest one and this one held counters of a turn ago.
            let newest = self.next.saturating_sub(1) / WORD;
            let steps = (counter / WORD - newest).min(WORDS as u64);
            for step in 1..=steps {
                *self.word_mut((newest + step) * WORD) = 0;
            }
            self.next = counter + 1;
        }
        *self.word_mut(counter) |= bit(counter);
        true
    }

    fn word(&self, counter: u64) -> u64 {
        // The remainder is below WORDS; the zero is never taken.
        self.seen.get(place(counter)).copied().unwrap_or(0)
    }

    fn word_mut(&mut self, counter: u64) -> &mut u64 {
        #[allow(clippy::indexing_slicing)] // a remainder of WORDS
        &mut self.seen[place(counter)]
    }
}

fn place(counter: u64) -> usize {
    (counter / WORD) as usize % WORDS
}

fn bit(counter: u64) -> u64 {
    1 << (counter % WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::Random;
    use std::collections::HashSet;

    #[test]
    fn takes_each_counter_once() {
        let mut replay = Replay::default();
        let order = [0, 1, 1, 9, 8, 7, 7, 6, 5, 4, 3, 2, 1, 0, 64, 63, 63, 65];
        let taken: Vec<bool> = order
            .iter()
            .map(|&counter| replay.accept(counter))
            .collect();
        let (yes, no) = (true, false);
        assert_eq!(
            taken,
            [
                yes, yes, no, yes, yes, yes, no, yes, yes, yes, yes, yes, no, no, yes, yes, no, yes
            ]
        );
    }

    #[test]
    fn the_window_is_8128_wide() {
        let mut replay = Replay::default();
        assert!(replay.accept(WINDOW * 3));
        assert!(replay.accept(WINDOW * 2));
        assert!(!replay.accept(WINDOW * 2 - 1));
    }

    #[test]
    fn refuses_counters_from_the_limit_on() {
        let mut replay = Replay::default();
        assert!(!replay.accept(REJECT_AFTER_MESSAGES));
        assert!(!replay.accept(u64::MAX));
        assert!(replay.accept(REJECT_AFTER_MESSAGES - 1));
        assert!(replay.accept(REJECT_AFTER_MESSAGES - 1 - WINDOW));
        assert!(!replay.accept(REJECT_AFTER_MESSAGES - 2 - WINDOW));
    }

    #[test]
    fn agrees_with_a_set_on_random_walks() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let mut replay = Replay::default();
            let mut seen = HashSet::new();
            let mut next = 0u64;
            for _ in 0..20_000 {
                let jump = if random.once_in(100) { 20_000 } else { 200 };
                let counter =
                    (next + random.below(jump) as u64).saturating_sub(random.below(9000) as u64);
                let fits = counter >= next || next - counter <= WINDOW + 1;
                let expected = fits && seen.insert(counter);
                assert_eq!(replay.refuses(counter), !expected);
                assert_eq!(replay.accept(counter), expected);
                next = next.max(counter + 1);
            }
        }
    }
}
