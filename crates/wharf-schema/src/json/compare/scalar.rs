//! Strings and numbers: their bounds, patterns and steps.

use std::cmp::Ordering;

use serde_json::Number;

use super::super::kind::Kind;
use super::super::shape::{Numeric, Text};
use super::{Look, Step};

/// What becomes of a bound: added, removed, increased, decreased.
pub(super) type Changes = [Kind; 4];

/// The order of two numbers; exact where both are whole.
pub(super) fn order(left: &Number, right: &Number) -> Ordering {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or_default();
            float(left).total_cmp(&float(right))
        }
    }
}

fn whole(number: &Number) -> Option<i128> {
    let integer = number.as_i64().map(i128::from);
    integer.or_else(|| number.as_u64().map(i128::from))
}

/// Whether `number` is a multiple of `of`.
fn is_multiple(number: &Number, of: &Number) -> bool {
    if let (Some(number), Some(of)) = (whole(number), whole(of)) {
        return of != 0 && number % of == 0;
    }
    let (Some(number), Some(of)) = (number.as_f64(), of.as_f64()) else {
        return false;
    };
    let times = number / of;
    times.is_finite() && (times - times.round()).abs() <= 1e-9 * times.abs() && times.abs() >= 0.5
}

impl<'m> Look<'_, 'm> {
    /// Compares a bound that may be there or not.
    pub(super) fn bound<T>(
        &mut self,
        keyword: &'static str,
        (from, to): (Option<&T>, Option<&T>),
        order: impl Fn(&T, &T) -> Ordering,
        [added, removed, increased, decreased]: Changes,
    ) {
        let kind = match (from, to) {
            (None, None) => return,
            (None, Some(_)) => added,
            (Some(_), None) => removed,
            (Some(from), Some(to)) => match order(from, to) {
                Ordering::Less => increased,
                Ordering::Greater => decreased,
                Ordering::Equal => return,
            },
        };
        self.differs(kind, Step::Keyword(keyword));
    }

    /// Compares a number of things.
    pub(super) fn counts(
        &mut self,
        keyword: &'static str,
        (from, to): (Option<u64>, Option<u64>),
        changes: Changes,
    ) {
        self.bound(keyword, (from.as_ref(), to.as_ref()), u64::cmp, changes);
    }

    pub(super) fn strings(&mut self, from: &Text, to: &Text) {
        self.counts(
            "maxLength",
            (from.max_length, to.max_length),
            [
                Kind::MaxLengthAdded,
                Kind::MaxLengthRemoved,
                Kind::MaxLengthIncreased,
                Kind::MaxLengthDecreased,
            ],
        );
        self.counts(
            "minLength",
            (from.min_length, to.min_length),
            [
                Kind::MinLengthAdded,
                Kind::MinLengthRemoved,
                Kind::MinLengthIncreased,
                Kind::MinLengthDecreased,
            ],
        );
        let kind = match (&from.pattern, &to.pattern) {
            (None, Some(_)) => Kind::PatternAdded,
            (Some(_), None) => Kind::PatternRemoved,
            (Some(from), Some(to)) if from != to => Kind::PatternChanged,
            _ => return,
        };
        self.differs(kind, Step::Keyword("pattern"));
    }

    pub(super) fn numbers(&mut self, from: &Numeric, to: &Numeric) {
        self.bound(
            "maximum",
            (from.maximum.as_ref(), to.maximum.as_ref()),
            order,
            [
                Kind::MaximumAdded,
                Kind::MaximumRemoved,
                Kind::MaximumIncreased,
                Kind::MaximumDecreased,
            ],
        );
        self.bound(
            "minimum",
            (from.minimum.as_ref(), to.minimum.as_ref()),
            order,
            [
                Kind::MinimumAdded,
                Kind::MinimumRemoved,
                Kind::MinimumIncreased,
                Kind::MinimumDecreased,
            ],
        );
        self.bound(
            "exclusiveMaximum",
            (
                from.exclusive_maximum.as_ref(),
                to.exclusive_maximum.as_ref(),
            ),
            order,
            [
                Kind::ExclusiveMaximumAdded,
                Kind::ExclusiveMaximumRemoved,
                Kind::ExclusiveMaximumIncreased,
                Kind::ExclusiveMaximumDecreased,
            ],
        );
        self.bound(
            "exclusiveMinimum",
            (
                from.exclusive_minimum.as_ref(),
                to.exclusive_minimum.as_ref(),
            ),
            order,
            [
                Kind::ExclusiveMinimumAdded,
                Kind::ExclusiveMinimumRemoved,
                Kind::ExclusiveMinimumIncreased,
                Kind::ExclusiveMinimumDecreased,
            ],
        );
        self.multiples(from.multiple_of.as_ref(), to.multiple_of.as_ref());
        match (from.is_integer, to.is_integer) {
            (true, false) => self.differs(Kind::TypeExtended, Step::Here),
            (false, true) => self.differs(Kind::TypeNarrowed, Step::Here),
            _ => {}
        }
    }

    fn multiples(&mut self, from: Option<&Number>, to: Option<&Number>) {
        let kind = match (from, to) {
            (None, None) => return,
            (None, Some(_)) => Kind::MultipleOfAdded,
            (Some(_), None) => Kind::MultipleOfRemoved,
            (Some(from), Some(to)) => {
                if order(from, to) == Ordering::Equal {
                    return;
                }
                if is_multiple(to, from) {
                    Kind::MultipleOfExpanded
                } else if is_multiple(from, to) {
                    Kind::MultipleOfReduced
                } else {
                    Kind::MultipleOfChanged
                }
            }
        };
        self.differs(kind, Step::Keyword("multipleOf"));
    }
}
