//! Tokens that nobody guesses: what a worker shows to answer for a task, sealed with a key.
//!
//! A dispatch is easy to name: a saga, a step, a generation. So a token that comes from outside says
//! nothing until its seal was checked, in constant time. Whoever has the key can answer for every
//! worker; it is shown nowhere, not even by `Debug`.

use std::fmt::{self, Write as _};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::data::TaskToken;

/// How many bytes of the HMAC a seal has.
const SEAL_BYTES: usize = 16;
/// What is sealed begins so: a key that is used for something else, too, gives no token away.
const PURPOSE: &[u8] = b"wharf task token\n";

/// The key that tokens are sealed with.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl TokenKey {
    /// A key of bytes that nobody foresees; 32 of them are enough.
    pub fn new(secret: &[u8]) -> Self {
        let mut block = [0; 64];
        let digest = Sha256::digest(secret);
        for (byte, secret) in block.iter_mut().zip(digest) {
            *byte = secret;
        }
        Self(Hmac::new(&block.into()))
    }

    /// The token as a worker gets it: its text, a dot, and the seal in hex.
    pub fn seal(&self, token: TaskToken) -> String {
        let mut text = format!("{token}.");
        let seal = self.mac(token).finalize().into_bytes();
        for byte in seal.iter().take(SEAL_BYTES) {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
        text
    }

    /// The token of a text that [`TokenKey::seal`] gave; `None` for anything else.
    pub fn open(&self, text: &str) -> Option<TaskToken> {
        let (plain, seal) = text.rsplit_once('.')?;
        // One token has one text.
        let token = TaskToken::parse(plain).filter(|token| token.to_string() == plain)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if seal.len() != 2 * SEAL_BYTES || !seal.bytes().all(is_hex) {
            return None;
        }
        let mut bytes = [0; SEAL_BYTES];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let hex = seal.get(2 * index..2 * index + 2)?;
            *byte = u8::from_str_radix(hex, 16).ok()?;
        }
        // In constant time.
        let checked = self.mac(token).verify_truncated_left(&bytes);
        checked.is_ok().then_some(token)
    }

    fn mac(&self, token: TaskToken) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(PURPOSE);
        mac.update(token.to_string().as_bytes());
        mac
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::data::SagaId;
    use super::*;

    fn token(step: u32, generation: u32) -> TaskToken {
        TaskToken {
            saga: SagaId::of("checkout", "1"),
            step,
            generation,
        }
    }

    #[test]
    fn a_sealed_token_opens_with_its_key_and_with_no_other() {
        let key = TokenKey::new(b"one");
        let sealed = key.seal(token(3, 7));
        assert_eq!(key.open(&sealed), Some(token(3, 7)));
        assert_eq!(TokenKey::new(b"two").open(&sealed), None);
        assert_eq!(TaskToken::parse(&sealed), Some(token(3, 7)), "for records");
        assert!(!format!("{key:?}").contains("one"));
    }

    #[test]
    fn a_seal_covers_the_saga_the_step_and_the_generation() {
        let key = TokenKey::new(b"one");
        let sealed = key.seal(token(3, 7));
        let (_, seal) = sealed.rsplit_once('.').unwrap();
        let other = TaskToken {
            saga: SagaId::of("checkout", "2"),
            ..token(3, 7)
        };
        for wrong in [
            format!("{}.{seal}", token(3, 8)),
            format!("{}.{seal}", token(4, 7)),
            format!("{other}.{seal}"),
            token(3, 7).to_string(),
            format!("{}.", token(3, 7)),
            format!("{}.{}", token(3, 7), &seal[..30]),
            format!("{}.{seal}00", token(3, 7)),
            format!("{}.+{}", token(3, 7), &seal[1..]),
            format!("{sealed}.{seal}"),
            seal.to_owned(),
            String::new(),
        ] {
            assert_eq!(key.open(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_none_of_ours(text in "\\PC*") {
            prop_assert_eq!(TokenKey::new(b"one").open(&text), None);
        }

        #[test]
        fn one_changed_letter_opens_nothing(at in 0_usize..32, to in "[0-9a-f]") {
            let key = TokenKey::new(b"one");
            let sealed = key.seal(token(3, 7));
            let start = sealed.len() - 32;
            let mut changed = sealed.clone();
            changed.replace_range(start + at..=start + at, &to);
            prop_assert_eq!(key.open(&changed).is_some(), changed == sealed);
        }
    }
}
