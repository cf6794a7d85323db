//! What an evaluation has left of its budget. Everything that is copied is paid for first.

use serde_json::Value;

use super::{Budget, Failure};

/// What is left.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    steps: u64,
    bytes: usize,
    random: u64,
}

impl Meter {
    pub(super) fn new(budget: Budget) -> Self {
        let (steps, bytes) = (budget.steps, budget.bytes);
        let random = 0;
        Self {
            budget,
            steps,
            bytes,
            random,
        }
    }

    pub(super) fn budget(&self) -> Budget {
        self.budget
    }

    /// Pays for work.
    pub(super) fn step(&mut self, steps: usize) -> Result<(), Failure> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                let max = self.budget.steps;
                let cause = format!("the expression took more than {max} steps");
                Err(Failure::new(Failure::RUNTIME, cause))
            }
        }
    }

    /// Pays for bytes of the outcome.
    pub(super) fn pay(&mut self, bytes: usize) -> Result<(), Failure> {
        self.step(bytes / 64)?;
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(self.too_large()),
        }
    }

    fn too_large(&self) -> Failure {
        let max = self.budget.bytes;
        let cause = format!("the outcome of the expression is larger than {max} bytes");
        Failure::new(Failure::DATA_LIMIT, cause)
    }

    /// Fails beyond the depth.
    pub(super) fn deep(&self, depth: usize) -> Result<(), Failure> {
        if depth < self.budget.depth {
            return Ok(());
        }
        let max = self.budget.depth;
        let cause = format!("the value or expression is nested deeper than {max} levels");
        Err(Failure::new(Failure::DATA_LIMIT, cause))
    }

    /// A copy that is paid for.
    pub(super) fn copy(&mut self, value: &Value) -> Result<Value, Failure> {
        let size = self.size(value, 0)?;
        self.pay(size)?;
        Ok(value.clone())
    }

    /// Work whose bytes are given back, because nothing of it stays.
    pub(super) fn aside<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let bytes = self.bytes;
        let outcome = work(self);
        self.bytes = bytes;
        outcome
    }

    /// The whole outcome: within the bytes and the depth.
    pub(super) fn finish(&mut self, value: Value) -> Result<Value, Failure> {
        if self.size(&value, 0)? > self.budget.bytes {
            return Err(self.too_large());
        }
        Ok(value)
    }

    /// How large a value is as JSON, roughly: escapes are not counted.
    fn size(&mut self, value: &Value, depth: usize) -> Result<usize, Failure> {
        self.step(1)?;
        self.deep(depth)?;
        Ok(match value {
            Value::Null | Value::Bool(_) => 5,
            Value::Number(_) => 8,
            Value::String(text) => text.len().saturating_add(2),
            Value::Array(items) => {
                let mut size = 2_usize;
                for item in items {
                    size = size.saturating_add(self.size(item, depth + 1)? + 1);
                }
                size
            }
            Value::Object(fields) => {
                let mut size = 2_usize;
                for (name, item) in fields {
                    size = size.saturating_add(name.len() + 4 + self.size(item, depth + 1)?);
                }
                size
            }
        })
    }

    /// The next number that the seed gives (SplitMix64).
    pub(super) fn random(&mut self, seed: u64) -> u64 {
        self.random = self.random.wrapping_add(1);
        scramble(seed ^ scramble(self.random))
    }
}

/// One round of SplitMix64.
pub(super) fn scramble(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A version 4 UUID out of two numbers.
pub(super) fn uuid(high: u64, low: u64) -> String {
    let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// Reads a moment of RFC 3339 with any offset, to the nanosecond since 1970.
pub(super) fn moment(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i128> {
        let digits = bytes.get(from..to)?;
        let digit = |byte: &u8| byte.is_ascii_digit().then(|| i128::from(byte - b'0'));
        digits
            .iter()
            .try_fold(0, |sum, byte| Some(sum * 10 + digit(byte)?))
    };
    let sign = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|c| wanted.contains(c));
    if !(sign(4, b"-") && sign(7, b"-") && sign(10, b"T") && sign(13, b":") && sign(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i128::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0;
    if sign(at, b".") {
        let end = (at + 1..bytes.len()).find(|i| !bytes[*i].is_ascii_digit())?;
        let digits = (end - at - 1).min(9);
        if digits == 0 {
            return None;
        }
        nanos = number(at + 1, at + 1 + digits)? * 10_i128.pow(u32::try_from(9 - digits).ok()?);
        at = end;
    }
    let offset = if sign(at, b"Z") && bytes.len() == at + 1 {
        0
    } else if sign(at, b"+-") && sign(at + 3, b":") && bytes.len() == at + 6 {
        let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let seconds = hours * 3600 + minutes * 60;
        if sign(at, b"-") { -seconds } else { seconds }
    } else {
        return None;
    };
    // Days since 1970 of the Gregorian calendar, counted from March so that leap days come last.
    let y = if month <= 2 { year - 1 } else { year };
    let shifted = (month + 9) % 12;
    let before = y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    let date = before + (shifted * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = date * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * 1_000_000_000 + nanos)
}
