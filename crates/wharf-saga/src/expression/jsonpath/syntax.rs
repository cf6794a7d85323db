//! Paths as they are written. The reader is bounded by the text's length and a depth of nesting.

use serde_json::{Number, Value};

use super::super::Syntax;

/// How long a path may be.
const LENGTH_MAX: usize = 8192;
/// How deep filters may be nested.
const DEPTH_MAX: usize = 16;

/// Where a path begins.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Root {
    /// `$`: the input.
    Input,
    /// `$$`: the context object.
    Context,
    /// `$name`: a variable.
    Variable(String),
    /// `@`: the item that a filter looks at.
    Item,
}

/// A path that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Path {
    pub(in super::super) root: Root,
    pub(in super::super) segments: Vec<Segment>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Segment {
    /// Whether `..` comes before it.
    pub(in super::super) anywhere: bool,
    pub(in super::super) pick: Pick,
}

/// What a step picks.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Pick {
    Name(String),
    Names(Vec<String>),
    Index(i64),
    Indexes(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter(Filter),
}

/// The condition of a filter.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// The path finds something.
    Exists(Path),
    Compare(Operand, Operator, Operand),
}

/// A side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Operand {
    Literal(Value),
    Path(Path),
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Contains,
    Size,
    Empty,
}

impl Path {
    /// Whether it can only mean one value.
    pub(in super::super) fn is_definite(&self) -> bool {
        let last = self.segments.len().saturating_sub(1);
        let definite = |(at, segment): (usize, &Segment)| {
            !segment.anywhere
                && match segment.pick {
                    Pick::Name(_) | Pick::Index(_) => true,
                    Pick::Names(_) => at == last,
                    _ => false,
                }
        };
        self.segments.iter().enumerate().all(definite)
    }

    /// Whether it means one place, which can be written to.
    pub(in super::super) fn is_reference(&self) -> bool {
        let plain = |segment: &Segment| {
            !segment.anywhere
                && match segment.pick {
                    Pick::Name(_) => true,
                    Pick::Index(index) => index >= 0,
                    _ => false,
                }
        };
        self.segments.iter().all(plain)
    }
}

/// Reads a whole path.
pub(in super::super) fn parse(text: &str) -> Result<Path, Syntax> {
    let mut reader = Reader::new(text)?;
    let path = reader.path(false)?;
    if reader.at < reader.chars.len() {
        return reader.fail("nothing may follow the path; a step begins with `.` or `[`");
    }
    Ok(path)
}

/// The characters of an expression, and how far they were read.
pub(in super::super) struct Reader {
    pub(in super::super) chars: Vec<char>,
    pub(in super::super) at: usize,
    depth: usize,
}

impl Reader {
    pub(in super::super) fn new(text: &str) -> Result<Self, Syntax> {
        if text.len() > LENGTH_MAX {
            let what = format!("an expression has at most {LENGTH_MAX} bytes");
            return Err(Syntax::new(LENGTH_MAX, what));
        }
        let chars = text.chars().collect();
        let (at, depth) = (0, 0);
        Ok(Self { chars, at, depth })
    }

    pub(in super::super) fn fail<T>(&self, what: impl Into<String>) -> Result<T, Syntax> {
        Err(Syntax::new(self.at, what))
    }

    pub(in super::super) fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    pub(in super::super) fn take(&mut self, wanted: &str) -> bool {
        let mut end = self.at;
        for c in wanted.chars() {
            if self.chars.get(end) != Some(&c) {
                return false;
            }
            end += 1;
        }
        self.at = end;
        true
    }

    pub(in super::super) fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn expect(&mut self, wanted: &str) -> Result<(), Syntax> {
        self.space();
        if self.take(wanted) {
            return Ok(());
        }
        self.fail(format!("`{wanted}` is missing"))
    }

    /// A path from its root on, as far as it goes. Inside a filter `@` is a root too.
    pub(in super::super) fn path(&mut self, in_filter: bool) -> Result<Path, Syntax> {
        let root = if self.take("$$") {
            Root::Context
        } else if self.take("$") {
            let name = self.identifier();
            if name.is_empty() {
                Root::Input
            } else {
                Root::Variable(name)
            }
        } else if in_filter && self.take("@") {
            Root::Item
        } else {
            return self.fail("a path begins with `$`, `$$` or `$name`");
        };
        let mut segments = Vec::new();
        loop {
            if self.take("..") {
                let pick = if self.take("[") {
                    self.bracket()?
                } else {
                    self.dotted()?
                };
                let anywhere = true;
                segments.push(Segment { anywhere, pick });
            } else if self.take(".") {
                let (pick, anywhere) = (self.dotted()?, false);
                segments.push(Segment { anywhere, pick });
            } else if self.take("[") {
                let (pick, anywhere) = (self.bracket()?, false);
                segments.push(Segment { anywhere, pick });
            } else {
                return Ok(Path { root, segments });
            }
        }
    }

    /// Letters, digits and `_`: a variable's or a function's name.
    pub(in super::super) fn identifier(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn dotted(&mut self) -> Result<Pick, Syntax> {
        if self.take("*") {
            return Ok(Pick::All);
        }
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.at += 1;
                let Some(escaped) = self.peek() else {
                    return self.fail("a character is missing after `\\`");
                };
                name.push(escaped);
            } else if c.is_whitespace()
                || ".[](){}'\",@?*:=<>!|".contains(c)
                || (c == '&' && self.chars.get(self.at + 1) == Some(&'&'))
            {
                break;
            } else {
                name.push(c);
            }
            self.at += 1;
        }
        if name.is_empty() {
            return self.fail("a name is missing after `.`");
        }
        if self.peek() == Some('(') {
            return self.fail(
                "functions of JSONPath are not supported; use States.ArrayLength and its like",
            );
        }
        Ok(Pick::Name(name))
    }

    fn bracket(&mut self) -> Result<Pick, Syntax> {
        self.space();
        let pick = match self.peek() {
            Some('*') => {
                self.at += 1;
                Pick::All
            }
            Some('?') => {
                self.at += 1;
                self.expect("(")?;
                let filter = self.any()?;
                self.expect(")")?;
                Pick::Filter(filter)
            }
            Some('\'' | '"') => {
                let mut names = vec![self.quoted()?];
                self.space();
                while self.take(",") {
                    self.space();
                    names.push(self.quoted()?);
                    self.space();
                }
                match names.pop() {
                    Some(name) if names.is_empty() => Pick::Name(name),
                    last => {
                        names.extend(last);
                        Pick::Names(names)
                    }
                }
            }
            _ => self.numbers()?,
        };
        self.expect("]")?;
        Ok(pick)
    }

    fn numbers(&mut self) -> Result<Pick, Syntax> {
        let first = self.integer()?;
        self.space();
        if self.take(":") {
            self.space();
            let end = self.integer()?;
            self.space();
            if self.peek() == Some(':') {
                return self.fail("a slice has no step: `[from:to]`");
            }
            return Ok(Pick::Slice(first, end));
        }
        let Some(first) = first else {
            return self.fail("brackets hold `*`, a quoted name, an index, a slice or `?( … )`");
        };
        let mut indexes = vec![first];
        while self.take(",") {
            self.space();
            match self.integer()? {
                Some(index) => indexes.push(index),
                None => return self.fail("an index is missing after `,`"),
            }
            self.space();
        }
        Ok(match indexes[..] {
            [index] => Pick::Index(index),
            _ => Pick::Indexes(indexes),
        })
    }

    fn integer(&mut self) -> Result<Option<i64>, Syntax> {
        let start = self.at;
        self.take("-");
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        if start == self.at {
            return Ok(None);
        }
        let text: String = self.chars[start..self.at].iter().collect();
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => self.fail(format!("`{text}` is no index")),
        }
    }

    fn quoted(&mut self) -> Result<String, Syntax> {
        let Some(quote @ ('\'' | '"')) = self.peek() else {
            return self.fail("a quoted name is missing");
        };
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return self.fail(format!("the closing {quote} is missing")),
                Some('\\') => {
                    self.at += 1;
                    let Some(c) = self.peek() else {
                        return self.fail("a character is missing after `\\`");
                    };
                    text.push(c);
                }
                Some(c) if c == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
            self.at += 1;
        }
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Syntax>) -> Result<T, Syntax> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(format!("filters are nested deeper than {DEPTH_MAX} levels"));
        }
        let outcome = f(self);
        self.depth -= 1;
        outcome
    }

    fn any(&mut self) -> Result<Filter, Syntax> {
        self.deeper(|reader| {
            let mut sides = vec![reader.every()?];
            reader.space();
            while reader.take("||") {
                sides.push(reader.every()?);
                reader.space();
            }
            Ok(Filter::Or(sides))
        })
    }

    fn every(&mut self) -> Result<Filter, Syntax> {
        let mut sides = vec![self.term()?];
        self.space();
        while self.take("&&") {
            sides.push(self.term()?);
            self.space();
        }
        Ok(Filter::And(sides))
    }

    fn term(&mut self) -> Result<Filter, Syntax> {
        self.space();
        if self.take("!") {
            let term = self.deeper(Self::term)?;
            return Ok(Filter::Not(Box::new(term)));
        }
        if self.take("(") {
            let inner = self.any()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let left = self.operand()?;
        self.space();
        let Some(operator) = self.operator()? else {
            return match left {
                Operand::Path(path) => Ok(Filter::Exists(path)),
                Operand::Literal(_) => self.fail("a filter compares something with a path"),
            };
        };
        self.space();
        let right = self.operand()?;
        Ok(Filter::Compare(left, operator, right))
    }

    fn operator(&mut self) -> Result<Option<Operator>, Syntax> {
        const SIGNS: [(&str, Operator); 6] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            ("<", Operator::Less),
            (">=", Operator::GreaterOrEqual),
            (">", Operator::Greater),
        ];
        if let Some((_, operator)) = SIGNS.iter().find(|(sign, _)| self.take(sign)) {
            return Ok(Some(*operator));
        }
        let start = self.at;
        let word = self.identifier().to_lowercase();
        Ok(Some(match word.as_str() {
            "in" => Operator::In,
            "nin" => Operator::NotIn,
            "contains" => Operator::Contains,
            "size" => Operator::Size,
            "empty" => Operator::Empty,
            "" => return Ok(None),
            _ => {
                self.at = start;
                return self.fail(format!("`{word}` is no operator of a filter"));
            }
        }))
    }

    fn operand(&mut self) -> Result<Operand, Syntax> {
        match self.peek() {
            Some('$' | '@') => {
                let path = self.deeper(|reader| reader.path(true))?;
                Ok(Operand::Path(path))
            }
            Some('\'' | '"') => Ok(Operand::Literal(Value::String(self.quoted()?))),
            Some('[') => {
                self.at += 1;
                let mut items = Vec::new();
                self.space();
                while !self.take("]") {
                    if !items.is_empty() {
                        self.expect(",")?;
                        self.space();
                    }
                    match self.deeper(Self::operand)? {
                        Operand::Literal(item) => items.push(item),
                        Operand::Path(_) => return self.fail("a list in a filter holds no paths"),
                    }
                    self.space();
                }
                Ok(Operand::Literal(Value::Array(items)))
            }
            _ => {
                let literal = self.literal()?;
                Ok(Operand::Literal(literal))
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    pub(in super::super) fn literal(&mut self) -> Result<Value, Syntax> {
        let start = self.at;
        while (self.peek()).is_some_and(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        match text.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            _ => match text.parse::<Number>() {
                Ok(number) => Ok(Value::Number(number)),
                Err(_) => {
                    self.at = start;
                    self.fail(
                        "a number, a quoted text, `true`, `false`, `null` or a path is missing",
                    )
                }
            },
        }
    }
}
