//! What serde makes of a type, in words of which a schema can be written: [`Schema`] and its derive.
//!
//! A shape says what the JSON of a value looks like. Types with a name are defined once and referred
//! to by it, so a type may contain itself. Two types of one name are an error, told when the schema is
//! made, and never one definition that stands for both.

use std::any::type_name;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

/// A type that has a place in a schema: derive it for structs and enums, beside `Serialize` and
/// `Deserialize`, whose attributes `rename`, `rename_all`, `default` and `skip` are followed.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wharf::{Event, Schema};
///
/// #[derive(Serialize, Deserialize, Schema)]
/// struct Line { article: String, count: u32 }
///
/// #[derive(Serialize, Deserialize, Schema)]
/// enum Payment { Cash, Card { number: String } }
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.placed", topic = "shop.orders", key = "order", schema = "avro")]
/// struct OrderPlaced { order: String, lines: Vec<Line>, payment: Option<Payment> }
///
/// let contract = OrderPlaced::contract().unwrap()?;
/// assert!(contract.text().contains(r#""name":"OrderPlaced","namespace":"shop.order""#));
/// # Ok::<(), wharf::schema::SchemaError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no place in a schema",
    label = "is in an event that brings its schema",
    note = "derive it: `#[derive(Serialize, Deserialize, Schema)]`"
)]
pub trait Schema {
    /// Its shape; what it consists of is defined on the way.
    fn shape(definitions: &mut Definitions) -> Shape;
}

/// What the JSON of a value looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number that fits 32 bits with a sign.
    Int,
    /// A larger whole number.
    Long,
    /// A number of single precision.
    Float,
    /// A number.
    Double,
    /// Text.
    Text,
    /// A UUID as text.
    Uuid,
    /// It, or null.
    Optional(Box<Shape>),
    /// An array of these.
    List(Box<Shape>),
    /// An object whose values are these.
    Map(Box<Shape>),
    /// A type by its name in the [`Definitions`].
    Named(String),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name in JSON.
    pub name: String,
    /// What is said about it.
    pub doc: Option<String>,
    /// Its shape.
    pub shape: Shape,
    /// Its value when it is not there, as JSON; it must be there when there is none.
    pub default: Option<Value>,
}

/// A variant of a choice: `"Cash"`, or `{"Card": …}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name in JSON.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a variant of a choice.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing: the variant is a string.
    Unit,
    /// A value.
    Value(Shape),
    /// Fields.
    Fields(Vec<Field>),
}

/// A type with a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Definition {
    /// An object.
    Record {
        /// What is said about it.
        doc: Option<String>,
        /// Its fields, in order.
        fields: Vec<Field>,
    },
    /// One of these strings.
    Enum {
        /// What is said about it.
        doc: Option<String>,
        /// The strings, in order.
        symbols: Vec<String>,
    },
    /// One of several, as serde tags them externally.
    Choice {
        /// What is said about it.
        doc: Option<String>,
        /// The variants, in order.
        variants: Vec<Variant>,
    },
}

/// The types with names that a schema consists of.
#[derive(Debug, Default)]
pub struct Definitions {
    /// With the Rust type that each belongs to; `None` while it is being described.
    by_name: BTreeMap<String, (&'static str, Option<Definition>)>,
    clash: Option<String>,
}

impl Definitions {
    /// Defines the type `T` under a name, unless it is already, and gives the shape that refers to it.
    pub fn define<T: ?Sized>(
        &mut self,
        name: &str,
        describe: impl FnOnce(&mut Self) -> Definition,
    ) -> Shape {
        let rust = type_name::<T>();
        match self.by_name.get(name) {
            Some((known, _)) if *known != rust => {
                self.clash.get_or_insert_with(|| {
                    format!(
                        "{known} and {rust} are both called {name}; give one of them another name \
                         with #[schema(name = \"…\")]"
                    )
                });
            }
            Some(_) => {}
            None => {
                self.by_name.insert(name.to_owned(), (rust, None));
                let definition = describe(self);
                self.by_name
                    .insert(name.to_owned(), (rust, Some(definition)));
            }
        }
        Shape::Named(name.to_owned())
    }

    /// The type of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Definition> {
        self.by_name.get(name)?.1.as_ref()
    }

    /// The type of this name, with the name.
    pub(super) fn get_key(&self, name: &str) -> Option<(&str, &Definition)> {
        let (name, (_, definition)) = self.by_name.get_key_value(name)?;
        Some((name, definition.as_ref()?))
    }

    /// All of them by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Definition)> {
        let all = self.by_name.iter();
        all.filter_map(|(name, (_, definition))| Some((name.as_str(), definition.as_ref()?)))
    }

    /// Why they are no definitions, if they are not.
    pub(super) fn check(&self) -> Result<(), String> {
        self.clash.clone().map_or(Ok(()), Err)
    }
}

macro_rules! shapes {
    ($($shape:ident: $($type:ty)+;)+) => {$($(
        impl Schema for $type {
            fn shape(_: &mut Definitions) -> Shape {
                Shape::$shape
            }
        }
    )+)+};
}

shapes! {
    Boolean: bool;
    Int: i8 u8 i16 u16 i32;
    Long: u32 i64 u64 isize usize;
    Float: f32;
    Double: f64;
    Text: String str char;
    Uuid: Uuid;
}

macro_rules! same {
    ($($type:ident)+) => {$(
        impl<T: Schema + ?Sized> Schema for $type<T> {
            fn shape(definitions: &mut Definitions) -> Shape {
                T::shape(definitions)
            }
        }
    )+};
}

same! { Box Rc Arc }

impl<T: Schema + ?Sized> Schema for &T {
    fn shape(definitions: &mut Definitions) -> Shape {
        T::shape(definitions)
    }
}

impl<T: Schema + ToOwned + ?Sized> Schema for Cow<'_, T> {
    fn shape(definitions: &mut Definitions) -> Shape {
        T::shape(definitions)
    }
}

impl<T: Schema> Schema for Option<T> {
    fn shape(definitions: &mut Definitions) -> Shape {
        match T::shape(definitions) {
            // JSON cannot tell one null from another.
            optional @ Shape::Optional(_) => optional,
            shape => Shape::Optional(Box::new(shape)),
        }
    }
}

macro_rules! lists {
    ($($type:ty)+) => {$(
        impl<T: Schema> Schema for $type {
            fn shape(definitions: &mut Definitions) -> Shape {
                Shape::List(Box::new(T::shape(definitions)))
            }
        }
    )+};
}

lists! { Vec<T> VecDeque<T> BTreeSet<T> [T] }

impl<T: Schema, H> Schema for HashSet<T, H> {
    fn shape(definitions: &mut Definitions) -> Shape {
        Shape::List(Box::new(T::shape(definitions)))
    }
}

impl<T: Schema, const N: usize> Schema for [T; N] {
    fn shape(definitions: &mut Definitions) -> Shape {
        Shape::List(Box::new(T::shape(definitions)))
    }
}

impl<K: MapKey, T: Schema> Schema for BTreeMap<K, T> {
    fn shape(definitions: &mut Definitions) -> Shape {
        Shape::Map(Box::new(T::shape(definitions)))
    }
}

impl<K: MapKey, T: Schema, H> Schema for HashMap<K, T, H> {
    fn shape(definitions: &mut Definitions) -> Shape {
        Shape::Map(Box::new(T::shape(definitions)))
    }
}

/// What serde_json writes as the name of an object's entry.
pub trait MapKey {}

macro_rules! keys {
    ($($type:ty)+) => {$(impl MapKey for $type {})+};
}

keys! { String &str Cow<'_, str> Box<str> Arc<str> char Uuid bool i8 u8 i16 u16 i32 u32 i64 u64 }
