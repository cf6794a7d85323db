//! What is changed in an expression before it is evaluated, so that it pays for what it does.
//!
//! The crate bounds recursion and the length of sequences, and watches the time. It counts nothing
//! and it does not bound texts: twenty-odd doublings of a text would take all memory. So whatever
//! is handed to a function, joined or put into a list or an object goes through a function of ours,
//! which measures it and counts. Its name cannot be written in an expression.

use jsonata_core::ast::{AstNode, BinaryOp, PathStep, Stage};
use jsonata_core::value::with_stack;

/// Measures and counts.
pub(super) const GUARD: &str = "%guard";
/// Counts a call of a function of the expression.
pub(super) const STEP: &str = "%step";
/// The text that a call works on.
pub(super) const FIRST: &str = "%first";
/// What may come into the outcome of a call many times over.
pub(super) const FACTOR: &str = "%factor";
/// How wide a text is to be made.
pub(super) const WIDTH: &str = "%width";
/// A picture that reads a whole date.
pub(super) const PICTURE: &str = "%picture";

/// Functions that may be called, but not handed on as values: their arguments must be seen.
const ONLY_CALLED: &[&str] = &["join", "replace", "pad", "toMillis", "now", "millis"];
/// How deep brackets may be nested.
const BRACKETS_MAX: usize = 100;

/// Whether brackets are nested within reason; texts are not looked into, so that this may err on
/// the side of refusing.
pub(super) fn shallow(text: &str) -> Result<(), (usize, String)> {
    let mut depth = 0_usize;
    for (at, c) in text.chars().enumerate() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKETS_MAX {
            return Err((
                at,
                format!("brackets are nested deeper than {BRACKETS_MAX}"),
            ));
        }
    }
    Ok(())
}

/// Whether nothing is used that there is not.
pub(super) fn allowed(node: &AstNode) -> Result<(), String> {
    with_stack(|| {
        match node {
            AstNode::Function { name, .. } | AstNode::Variable(name) if name == "eval" => {
                return Err("there is no `$eval`".to_owned());
            }
            AstNode::Variable(name) if ONLY_CALLED.contains(&name.as_str()) => {
                return Err(format!(
                    "`${name}` can be called, but not handed on; write function(…) {{ ${name}(…) }}"
                ));
            }
            AstNode::Function { name, args, .. }
                if ONLY_CALLED.contains(&name.as_str()) && args.contains(&AstNode::Placeholder) =>
            {
                return Err(format!("`${name}` cannot be applied in part"));
            }
            _ => {}
        }
        children(node).into_iter().try_for_each(allowed)
    })
}

fn children(node: &AstNode) -> Vec<&AstNode> {
    fn pairs(pairs: &[(AstNode, AstNode)]) -> Vec<&AstNode> {
        pairs.iter().flat_map(|(key, value)| [key, value]).collect()
    }
    match node {
        AstNode::Path { steps } => {
            let mut all = Vec::new();
            for step in steps {
                all.push(&step.node);
                for stage in &step.stages {
                    if let Stage::Filter(filter) = stage {
                        all.push(filter);
                    }
                }
            }
            all
        }
        AstNode::Binary { lhs, rhs, .. } => vec![lhs, rhs],
        AstNode::Unary { operand, .. } => vec![operand],
        AstNode::Function { args, .. } => args.iter().collect(),
        AstNode::Call { procedure, args } => {
            let mut all: Vec<_> = args.iter().collect();
            all.push(procedure);
            all
        }
        AstNode::Lambda { body, .. } => vec![body],
        AstNode::Array(items) | AstNode::Block(items) | AstNode::ArrayGroup(items) => {
            items.iter().collect()
        }
        AstNode::Object(fields) => pairs(fields),
        AstNode::ObjectTransform { input, pattern } => {
            let mut all = pairs(pattern);
            all.push(input);
            all
        }
        AstNode::Conditional {
            condition,
            then_branch,
            else_branch,
        } => {
            let mut all = vec![&**condition, &**then_branch];
            all.extend(else_branch.as_deref());
            all
        }
        AstNode::FunctionApplication(inner) => vec![inner],
        AstNode::Sort { input, terms } => {
            let mut all: Vec<_> = terms.iter().map(|(term, _)| term).collect();
            all.push(input);
            all
        }
        AstNode::Transform {
            location,
            update,
            delete,
        } => {
            let mut all = vec![&**location, &**update];
            all.extend(delete.as_deref());
            all
        }
        _ => Vec::new(),
    }
}

/// The expression with everything that must pay going through a guard, and whether the moment was put
/// into it.
pub(super) fn guarded(mut node: AstNode, now: i64) -> (AstNode, bool) {
    let mut guard = Guard {
        now,
        is_timed: false,
        calls: 0,
    };
    guard.visit(&mut node);
    (node, guard.is_timed)
}

struct Guard {
    now: i64,
    is_timed: bool,
    /// How many calls were seen that have a text and something that comes into it.
    calls: u32,
}

fn call(name: &str, args: Vec<AstNode>) -> AstNode {
    let (name, is_builtin) = (name.to_owned(), true);
    AstNode::Function {
        name,
        args,
        is_builtin,
    }
}

fn wrap(name: &str, node: &mut AstNode, id: Option<u32>) {
    let plain = matches!(
        node,
        AstNode::Placeholder | AstNode::Lambda { .. } | AstNode::Regex { .. }
    );
    if plain {
        return;
    }
    let inner = std::mem::replace(node, AstNode::Null);
    let mut args = vec![inner];
    args.extend(id.map(|id| AstNode::Number(f64::from(id))));
    *node = call(name, args);
}

fn is_constant(node: &AstNode) -> bool {
    matches!(
        node,
        AstNode::String(_) | AstNode::Number(_) | AstNode::Boolean(_) | AstNode::Null
    )
}

fn pay(node: &mut AstNode) {
    if !is_constant(node) {
        wrap(GUARD, node, None);
    }
}

impl Guard {
    fn visit(&mut self, node: &mut AstNode) {
        with_stack(|| self.visit_here(node));
    }

    fn visit_all<'n>(&mut self, nodes: impl IntoIterator<Item = &'n mut AstNode>) {
        nodes.into_iter().for_each(|node| self.visit(node));
    }

    fn visit_here(&mut self, node: &mut AstNode) {
        match node {
            AstNode::Path { steps } => steps.iter_mut().for_each(|step| self.step(step)),
            AstNode::Binary { op, lhs, rhs } => self.binary(*op, lhs, rhs),
            AstNode::Unary { operand, .. } => self.visit(operand),
            AstNode::Function { name, args, .. } => {
                self.visit_all(args.iter_mut());
                let name = name.clone();
                self.function(&name, args, false);
                if name == "millis" && args.is_empty() {
                    *node = self.millis();
                } else if name == "now" {
                    let mut args = std::mem::take(args);
                    args.insert(0, self.millis());
                    *node = call("fromMillis", args);
                }
            }
            AstNode::Call { procedure, args } => {
                self.visit(procedure);
                self.visit_all(args.iter_mut());
                args.iter_mut().for_each(pay);
            }
            AstNode::Lambda { body, thunk, .. } => {
                self.visit(body);
                if !*thunk {
                    let inner = std::mem::replace(&mut **body, AstNode::Null);
                    **body = AstNode::Block(vec![call(STEP, Vec::new()), inner]);
                }
            }
            AstNode::Array(items) | AstNode::ArrayGroup(items) => {
                for item in items {
                    self.visit(item);
                    let range = matches!(
                        item,
                        AstNode::Binary {
                            op: BinaryOp::Range,
                            ..
                        }
                    );
                    if !range && !matches!(item, AstNode::Array(_) | AstNode::ArrayGroup(_)) {
                        pay(item);
                    }
                }
            }
            AstNode::Block(items) => self.visit_all(items),
            AstNode::Object(fields) => self.pairs(fields),
            AstNode::ObjectTransform { input, pattern } => {
                self.visit(input);
                self.pairs(pattern);
            }
            AstNode::Conditional {
                condition,
                then_branch,
                else_branch,
            } => {
                self.visit(condition);
                self.visit(then_branch);
                self.visit_all(else_branch.as_deref_mut());
            }
            AstNode::FunctionApplication(inner) => self.visit(inner),
            AstNode::Sort { input, terms } => {
                self.visit(input);
                for (term, _) in terms {
                    self.visit(term);
                    pay(term);
                }
            }
            AstNode::Transform {
                location,
                update,
                delete,
            } => {
                self.visit(location);
                self.visit(update);
                self.visit_all(delete.as_deref_mut());
            }
            _ => {}
        }
    }

    fn step(&mut self, step: &mut PathStep) {
        self.visit(&mut step.node);
        for stage in &mut step.stages {
            if let Stage::Filter(filter) = stage {
                self.visit(filter);
                if !matches!(**filter, AstNode::Unary { .. } | AstNode::Array(_)) {
                    pay(filter);
                }
            }
        }
    }

    fn millis(&mut self) -> AstNode {
        self.is_timed = true;
        #[expect(clippy::cast_precision_loss, reason = "JSONata has doubles only")]
        AstNode::Number(self.now as f64)
    }

    fn pairs(&mut self, pairs: &mut [(AstNode, AstNode)]) {
        for (key, value) in pairs {
            self.visit(key);
            self.visit(value);
            pay(value);
        }
    }

    fn binary(&mut self, op: BinaryOp, lhs: &mut AstNode, rhs: &mut AstNode) {
        self.visit(lhs);
        match op {
            BinaryOp::ChainPipe => {
                // The left side is the first argument of the call on the right.
                if let AstNode::Function { name, args, .. } = rhs {
                    self.visit_all(args.iter_mut());
                    let name = name.clone();
                    match self.function(&name, args, true) {
                        Some(id) => wrap(FIRST, lhs, Some(id)),
                        None => pay(lhs),
                    }
                } else {
                    self.visit(rhs);
                }
            }
            BinaryOp::Concatenate | BinaryOp::Equal | BinaryOp::NotEqual | BinaryOp::In => {
                self.visit(rhs);
                pay(lhs);
                pay(rhs);
            }
            _ => self.visit(rhs),
        }
    }

    /// Guards the arguments of a call, of which the first may be elsewhere (`chained`). Gives the
    /// number of a call whose text must be measured with what comes into it.
    fn function(&mut self, name: &str, args: &mut [AstNode], chained: bool) -> Option<u32> {
        let mut id = None;
        for (at, arg) in args.iter_mut().enumerate() {
            match (name, at + usize::from(chained)) {
                ("join" | "replace", at) => {
                    let id = *id.get_or_insert_with(|| {
                        self.calls += 1;
                        self.calls
                    });
                    wrap(if at == 0 { FIRST } else { FACTOR }, arg, Some(id));
                }
                ("pad", 1) => wrap(WIDTH, arg, None),
                ("toMillis", 1) => wrap(PICTURE, arg, None),
                _ => pay(arg),
            }
        }
        id
    }
}
