//! A pair of schemas: what they say about themselves, and which rules compare what they accept.

use std::mem::discriminant;

use super::super::kind::Kind;
use super::super::shape::{Choice, Index, Shape};
use super::{Look, Pair, Step};

impl<'m> Look<'_, 'm> {
    /// Gathers what the pair shows.
    pub(super) fn compare(&mut self) {
        let from = self.engine.node(self.pair.from);
        let to = self.engine.node(self.pair.to);
        if self.one_of_several() {
            return;
        }
        if discriminant(&from.shape) != discriminant(&to.shape) {
            let is_connect_bytes = from.note.is_connect_bytes && to.note.is_connect_bytes;
            let accepts = matches!(from.shape, Shape::Nothing)
                || matches!(to.shape, Shape::Everything)
                || is_connect_bytes;
            if !accepts {
                self.differs(Kind::TypeChanged, Step::Here);
            }
            return;
        }
        self.notes();
        match (&from.shape, &to.shape) {
            (Shape::String(from), Shape::String(to)) => self.strings(from, to),
            (Shape::Number(from), Shape::Number(to)) => self.numbers(from, to),
            (Shape::Object(from), Shape::Object(to)) => self.objects(from, to),
            (Shape::Array(from), Shape::Array(to)) => self.arrays(from, to),
            (Shape::Enum(from), Shape::Enum(to)) => self.enumerations(from, to),
            (Shape::Const(from), Shape::Const(to)) if from.forms != to.forms => {
                self.differs(Kind::EnumArrayChanged, Step::Keyword("const"));
            }
            (Shape::Not(from), Shape::Not(to)) => self.negations(*from, *to),
            (Shape::Combined(from), Shape::Combined(to)) => self.combinations(from, to),
            _ => {}
        }
    }

    fn notes(&mut self) {
        let from = &self.engine.node(self.pair.from).note;
        let to = &self.engine.node(self.pair.to).note;
        for (kind, is_same) in [
            (Kind::IdChanged, from.id == to.id),
            (Kind::TitleChanged, from.title == to.title),
            (Kind::DescriptionChanged, from.description == to.description),
            (Kind::DefaultChanged, from.default == to.default),
        ] {
            if !is_same {
                self.differs(kind, Step::Here);
            }
        }
    }

    fn enumerations(&mut self, from: &Choice, to: &Choice) {
        if from.forms == to.forms {
            return;
        }
        let kind = if to.forms.is_superset(&from.forms) {
            Kind::EnumArrayExtended
        } else if from.forms.is_superset(&to.forms) {
            Kind::EnumArrayNarrowed
        } else {
            Kind::EnumArrayChanged
        };
        self.differs(kind, Step::Keyword("enum"));
    }

    /// What must not be: there, more is less, so the sides change places.
    fn negations(&mut self, from: Index, to: Index) {
        let reversed = Pair {
            from: self.engine.resolved(self.pair.to.is_reader, to),
            to: self.engine.resolved(self.pair.from.is_reader, from),
        };
        let kind = if self.holds(reversed) {
            Kind::NotTypeNarrowed
        } else {
            Kind::NotTypeExtended
        };
        self.differs(kind, Step::Keyword("not"));
    }
}
