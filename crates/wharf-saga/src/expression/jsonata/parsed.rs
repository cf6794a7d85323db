//! Expressions that were parsed before: each is parsed once by a thread, not at every evaluation.
//!
//! Kept is only what the text alone decides, so that an evaluation with it and one without it give
//! the same. When the texts that are kept grow beyond their bound, all of them go.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jsonata_core::ast::AstNode;

use super::guard::guarded;
use super::natives::Natives;
use super::{Syntax, parse};

/// How many bytes of texts are kept at most.
const KEPT_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// An expression, guarded, and which of our functions it may call.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) node: AstNode,
    pub(super) natives: Natives,
}

#[derive(Default)]
struct Kept {
    by_text: BTreeMap<Box<str>, Rc<Parsed>>,
    bytes: usize,
}

/// The expression, guarded, for an evaluation at this moment. One that asks for the moment has it in
/// it, so it is not kept.
pub(super) fn guarded_at(text: &str, now: i64) -> Result<Rc<Parsed>, Syntax> {
    if let Some(known) = KEPT.with_borrow(|kept| kept.by_text.get(text).cloned()) {
        return Ok(known);
    }
    let (node, is_timed) = guarded(parse(text)?, now);
    let natives = Natives::of(text);
    let expression = Rc::new(Parsed { node, natives });
    if !is_timed {
        KEPT.with_borrow_mut(|kept| kept.keep(text, &expression));
    }
    Ok(expression)
}

impl Kept {
    fn keep(&mut self, text: &str, expression: &Rc<Parsed>) {
        if self.bytes + text.len() > KEPT_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += text.len();
        self.by_text.insert(text.into(), Rc::clone(expression));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (usize, usize) {
        KEPT.with_borrow(|kept| (kept.by_text.len(), kept.bytes))
    }

    #[test]
    fn an_expression_is_parsed_once_and_the_moment_is_never_kept() {
        let before = kept().0;
        let text = "{% $states.input.a & 'once' %}";
        let first = guarded_at(text, 1).unwrap();
        assert!(Rc::ptr_eq(&first, &guarded_at(text, 2).unwrap()));
        let timed = "{% $millis() + 1 %}";
        let (one, two) = (guarded_at(timed, 1).unwrap(), guarded_at(timed, 2).unwrap());
        assert_ne!(one, two);
        assert_eq!(kept().0, before + 1);
        assert!(guarded_at("{% ( %}", 1).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for number in 0..40 {
            let text = format!("{{% '{number}{}' %}}", "x".repeat(15_000));
            guarded_at(&text, 1).unwrap();
            let (count, bytes) = kept();
            assert!(count > 0 && bytes <= KEPT_BYTES_MAX, "{bytes}");
        }
    }
}
