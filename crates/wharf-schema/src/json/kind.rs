//! The kinds of differences that Confluent's JSON Schema checker knows, as one table: which of them
//! break readers, under which policy, and the sentence each is told with.
//!
//! Nothing else decides whether a kind is compatible; the documentation is checked against it.

use crate::compat::Policy;

/// When a kind leaves a reader able to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Under every policy.
    Compatible,
    /// Under [`Policy::Lenient`] alone.
    LenientOnly,
    /// Never.
    Incompatible,
}

impl Verdict {
    /// Whether a reader under this policy still reads.
    pub fn holds(self, policy: Policy) -> bool {
        match self {
            Self::Compatible => true,
            Self::LenientOnly => policy == Policy::Lenient,
            Self::Incompatible => false,
        }
    }
}

/// Which of Confluent's sentences tells a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sentence {
    Unremarkable,
    SchemaAdded,
    KeywordAdded,
    More,
    Less,
    Different,
    FewerElements,
    MoreElements,
    TypeDifferent,
    AddedToOpen,
    RequiredAddedToUnopen,
    RemovedFromClosed,
    RemovedNotCovered,
    AddedNotCovered,
}

impl Sentence {
    fn text(self, path: &str) -> String {
        match self {
            Self::Unremarkable => {
                format!(
                    "A change at path '{path}' lets the {{new}} schema read what the {{old}} schema wrote"
                )
            }
            Self::SchemaAdded => format!(
                "The {{new}} schema has a schema at path '{path}' which is missing in the {{old}} schema"
            ),
            Self::KeywordAdded => format!(
                "The keyword at path '{path}' in the {{new}} schema is not present in the {{old}} schema"
            ),
            Self::More => format!(
                "The value at path '{path}' in the {{new}} schema is more than its value in the {{old}} schema"
            ),
            Self::Less => format!(
                "The value at path '{path}' in the {{new}} schema is less than its value in the {{old}} schema"
            ),
            Self::Different => format!(
                "The value at path '{path}' is different between the {{new}} and {{old}} schema"
            ),
            Self::FewerElements => format!(
                "An array or combined type at path '{path}' has fewer elements in the {{new}} schema than the {{old}} schema"
            ),
            Self::MoreElements => format!(
                "An array or combined type at path '{path}' has more elements in the {{new}} schema than the {{old}} schema"
            ),
            Self::TypeDifferent => format!(
                "A type at path '{path}' is different between the {{new}} schema and the {{old}} schema"
            ),
            Self::AddedToOpen => format!(
                "The {{new}} schema has an open content model and has a property or item at path '{path}' which is missing in the {{old}} schema"
            ),
            Self::RequiredAddedToUnopen => format!(
                "The {{new}} schema has an unopen content model and has a required property at path '{path}' which is missing in the {{old}} schema"
            ),
            Self::RemovedFromClosed => format!(
                "The {{new}} schema has a closed content model and is missing a property or item present at path '{path}' in the {{old}} schema"
            ),
            Self::RemovedNotCovered => format!(
                "A property or item is missing in the {{new}} schema but present at path '{path}' in the {{old}} schema and is not covered by its partially open content model"
            ),
            Self::AddedNotCovered => format!(
                "The {{new}} schema has a property or item at path '{path}' which is missing in the {{old}} schema and is not covered by its partially open content model"
            ),
        }
    }
}

macro_rules! kinds {
    ($($variant:ident $name:literal $verdict:ident $sentence:ident;)*) => {
        /// What differs between a writer's and a reader's schema, seen from the reader: an
        /// `…Added` is in the reader alone.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names are Confluent's, and the table tells the rest")]
        pub enum Kind {
            $($variant,)*
        }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As Confluent writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Under which policy a reader still reads.
            pub fn verdict(self) -> Verdict {
                match self {
                    $(Self::$variant => Verdict::$verdict,)*
                }
            }

            /// The sentence, with `{new}` and `{old}` left open.
            pub(super) fn sentence(self, path: &str) -> String {
                match self {
                    $(Self::$variant => Sentence::$sentence,)*
                }
                .text(path)
            }
        }
    };
}

kinds! {
    IdChanged "ID_CHANGED" Compatible Unremarkable;
    DescriptionChanged "DESCRIPTION_CHANGED" Compatible Unremarkable;
    TitleChanged "TITLE_CHANGED" Compatible Unremarkable;
    DefaultChanged "DEFAULT_CHANGED" Compatible Unremarkable;
    SchemaAdded "SCHEMA_ADDED" Incompatible SchemaAdded;
    SchemaRemoved "SCHEMA_REMOVED" Compatible Unremarkable;
    TypeExtended "TYPE_EXTENDED" Compatible Unremarkable;
    TypeNarrowed "TYPE_NARROWED" Incompatible TypeDifferent;
    TypeChanged "TYPE_CHANGED" Incompatible TypeDifferent;
    MaxLengthAdded "MAX_LENGTH_ADDED" Incompatible KeywordAdded;
    MaxLengthRemoved "MAX_LENGTH_REMOVED" Compatible Unremarkable;
    MaxLengthIncreased "MAX_LENGTH_INCREASED" Compatible Unremarkable;
    MaxLengthDecreased "MAX_LENGTH_DECREASED" Incompatible Less;
    MinLengthAdded "MIN_LENGTH_ADDED" Incompatible KeywordAdded;
    MinLengthRemoved "MIN_LENGTH_REMOVED" Compatible Unremarkable;
    MinLengthIncreased "MIN_LENGTH_INCREASED" Incompatible More;
    MinLengthDecreased "MIN_LENGTH_DECREASED" Compatible Unremarkable;
    PatternAdded "PATTERN_ADDED" Incompatible KeywordAdded;
    PatternRemoved "PATTERN_REMOVED" Compatible Unremarkable;
    PatternChanged "PATTERN_CHANGED" Incompatible Different;
    MaximumAdded "MAXIMUM_ADDED" Incompatible KeywordAdded;
    MaximumRemoved "MAXIMUM_REMOVED" Compatible Unremarkable;
    MaximumIncreased "MAXIMUM_INCREASED" Compatible Unremarkable;
    MaximumDecreased "MAXIMUM_DECREASED" Incompatible Less;
    MinimumAdded "MINIMUM_ADDED" Incompatible KeywordAdded;
    MinimumRemoved "MINIMUM_REMOVED" Compatible Unremarkable;
    MinimumIncreased "MINIMUM_INCREASED" Incompatible More;
    MinimumDecreased "MINIMUM_DECREASED" Compatible Unremarkable;
    ExclusiveMaximumAdded "EXCLUSIVE_MAXIMUM_ADDED" Incompatible KeywordAdded;
    ExclusiveMaximumRemoved "EXCLUSIVE_MAXIMUM_REMOVED" Compatible Unremarkable;
    ExclusiveMaximumIncreased "EXCLUSIVE_MAXIMUM_INCREASED" Compatible Unremarkable;
    ExclusiveMaximumDecreased "EXCLUSIVE_MAXIMUM_DECREASED" Incompatible Less;
    ExclusiveMinimumAdded "EXCLUSIVE_MINIMUM_ADDED" Incompatible KeywordAdded;
    ExclusiveMinimumRemoved "EXCLUSIVE_MINIMUM_REMOVED" Compatible Unremarkable;
    ExclusiveMinimumIncreased "EXCLUSIVE_MINIMUM_INCREASED" Incompatible More;
    ExclusiveMinimumDecreased "EXCLUSIVE_MINIMUM_DECREASED" Compatible Unremarkable;
    MultipleOfAdded "MULTIPLE_OF_ADDED" Incompatible KeywordAdded;
    MultipleOfRemoved "MULTIPLE_OF_REMOVED" Compatible Unremarkable;
    MultipleOfExpanded "MULTIPLE_OF_EXPANDED" Incompatible More;
    MultipleOfReduced "MULTIPLE_OF_REDUCED" Compatible Unremarkable;
    MultipleOfChanged "MULTIPLE_OF_CHANGED" Incompatible Different;
    RequiredAttributeAdded "REQUIRED_ATTRIBUTE_ADDED" Incompatible KeywordAdded;
    RequiredAttributeWithDefaultAdded "REQUIRED_ATTRIBUTE_WITH_DEFAULT_ADDED" Compatible Unremarkable;
    RequiredAttributeRemoved "REQUIRED_ATTRIBUTE_REMOVED" Compatible Unremarkable;
    MaxPropertiesAdded "MAX_PROPERTIES_ADDED" Incompatible KeywordAdded;
    MaxPropertiesRemoved "MAX_PROPERTIES_REMOVED" Compatible Unremarkable;
    MaxPropertiesIncreased "MAX_PROPERTIES_INCREASED" Compatible Unremarkable;
    MaxPropertiesDecreased "MAX_PROPERTIES_DECREASED" Incompatible Less;
    MinPropertiesAdded "MIN_PROPERTIES_ADDED" Incompatible KeywordAdded;
    MinPropertiesRemoved "MIN_PROPERTIES_REMOVED" Compatible Unremarkable;
    MinPropertiesIncreased "MIN_PROPERTIES_INCREASED" Incompatible More;
    MinPropertiesDecreased "MIN_PROPERTIES_DECREASED" Compatible Unremarkable;
    AdditionalPropertiesAdded "ADDITIONAL_PROPERTIES_ADDED" Compatible Unremarkable;
    AdditionalPropertiesRemoved "ADDITIONAL_PROPERTIES_REMOVED" LenientOnly KeywordAdded;
    AdditionalPropertiesExtended "ADDITIONAL_PROPERTIES_EXTENDED" Compatible Unremarkable;
    AdditionalPropertiesNarrowed "ADDITIONAL_PROPERTIES_NARROWED" LenientOnly FewerElements;
    DependencyArrayAdded "DEPENDENCY_ARRAY_ADDED" Incompatible KeywordAdded;
    DependencyArrayRemoved "DEPENDENCY_ARRAY_REMOVED" Compatible Unremarkable;
    DependencyArrayExtended "DEPENDENCY_ARRAY_EXTENDED" Incompatible MoreElements;
    DependencyArrayNarrowed "DEPENDENCY_ARRAY_NARROWED" Compatible Unremarkable;
    DependencyArrayChanged "DEPENDENCY_ARRAY_CHANGED" Incompatible Different;
    DependencySchemaAdded "DEPENDENCY_SCHEMA_ADDED" Incompatible KeywordAdded;
    DependencySchemaRemoved "DEPENDENCY_SCHEMA_REMOVED" Compatible Unremarkable;
    RequiredPropertyAddedToOpen "REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL" Incompatible AddedToOpen;
    RequiredPropertyWithDefaultAddedToOpen "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_OPEN_CONTENT_MODEL" LenientOnly AddedToOpen;
    OptionalPropertyAddedToOpen "OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL" LenientOnly AddedToOpen;
    PropertyWithEmptySchemaAddedToOpen "PROPERTY_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    RequiredPropertyAddedToUnopen "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL" Incompatible RequiredAddedToUnopen;
    RequiredPropertyWithDefaultAddedToUnopen "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_UNOPEN_CONTENT_MODEL" Compatible Unremarkable;
    OptionalPropertyAddedToUnopen "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL" Compatible Unremarkable;
    PropertyRemovedFromOpen "PROPERTY_REMOVED_FROM_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    PropertyWithFalseRemovedFromClosed "PROPERTY_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL" Compatible Unremarkable;
    PropertyRemovedFromClosed "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL" LenientOnly RemovedFromClosed;
    PropertyRemovedIsCovered "PROPERTY_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    PropertyRemovedNotCovered "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" LenientOnly RemovedNotCovered;
    PropertyAddedIsCovered "PROPERTY_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    PropertyAddedNotCovered "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" LenientOnly AddedNotCovered;
    UnevaluatedPropertiesAdded "UNEVALUATED_PROPERTIES_ADDED" Compatible Unremarkable;
    UnevaluatedPropertiesRemoved "UNEVALUATED_PROPERTIES_REMOVED" LenientOnly KeywordAdded;
    UnevaluatedPropertiesExtended "UNEVALUATED_PROPERTIES_EXTENDED" Compatible Unremarkable;
    UnevaluatedPropertiesNarrowed "UNEVALUATED_PROPERTIES_NARROWED" LenientOnly FewerElements;
    MaxItemsAdded "MAX_ITEMS_ADDED" Incompatible KeywordAdded;
    MaxItemsRemoved "MAX_ITEMS_REMOVED" Compatible Unremarkable;
    MaxItemsIncreased "MAX_ITEMS_INCREASED" Compatible Unremarkable;
    MaxItemsDecreased "MAX_ITEMS_DECREASED" Incompatible Less;
    MinItemsAdded "MIN_ITEMS_ADDED" Incompatible KeywordAdded;
    MinItemsRemoved "MIN_ITEMS_REMOVED" Compatible Unremarkable;
    MinItemsIncreased "MIN_ITEMS_INCREASED" Incompatible More;
    MinItemsDecreased "MIN_ITEMS_DECREASED" Compatible Unremarkable;
    MaxContainsAdded "MAX_CONTAINS_ADDED" Incompatible KeywordAdded;
    MaxContainsRemoved "MAX_CONTAINS_REMOVED" Compatible Unremarkable;
    MaxContainsIncreased "MAX_CONTAINS_INCREASED" Compatible Unremarkable;
    MaxContainsDecreased "MAX_CONTAINS_DECREASED" Incompatible Less;
    MinContainsAdded "MIN_CONTAINS_ADDED" Incompatible KeywordAdded;
    MinContainsRemoved "MIN_CONTAINS_REMOVED" Compatible Unremarkable;
    MinContainsIncreased "MIN_CONTAINS_INCREASED" Incompatible More;
    MinContainsDecreased "MIN_CONTAINS_DECREASED" Compatible Unremarkable;
    UniqueItemsAdded "UNIQUE_ITEMS_ADDED" Incompatible KeywordAdded;
    UniqueItemsRemoved "UNIQUE_ITEMS_REMOVED" Compatible Unremarkable;
    AdditionalItemsAdded "ADDITIONAL_ITEMS_ADDED" Compatible Unremarkable;
    AdditionalItemsRemoved "ADDITIONAL_ITEMS_REMOVED" Incompatible KeywordAdded;
    AdditionalItemsExtended "ADDITIONAL_ITEMS_EXTENDED" Compatible Unremarkable;
    AdditionalItemsNarrowed "ADDITIONAL_ITEMS_NARROWED" Incompatible FewerElements;
    UnevaluatedItemsAdded "UNEVALUATED_ITEMS_ADDED" Compatible Unremarkable;
    UnevaluatedItemsRemoved "UNEVALUATED_ITEMS_REMOVED" Incompatible KeywordAdded;
    UnevaluatedItemsExtended "UNEVALUATED_ITEMS_EXTENDED" Compatible Unremarkable;
    UnevaluatedItemsNarrowed "UNEVALUATED_ITEMS_NARROWED" Incompatible FewerElements;
    ItemAddedToOpen "ITEM_ADDED_TO_OPEN_CONTENT_MODEL" Incompatible AddedToOpen;
    ItemWithEmptySchemaAddedToOpen "ITEM_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    ItemAddedToClosed "ITEM_ADDED_TO_CLOSED_CONTENT_MODEL" Compatible Unremarkable;
    ItemRemovedFromOpen "ITEM_REMOVED_FROM_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    ItemWithFalseRemovedFromClosed "ITEM_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL" Compatible Unremarkable;
    ItemRemovedFromClosed "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL" Incompatible RemovedFromClosed;
    ItemRemovedIsCovered "ITEM_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    ItemRemovedNotCovered "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" Incompatible RemovedNotCovered;
    ItemAddedIsCovered "ITEM_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" Compatible Unremarkable;
    ItemAddedNotCovered "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL" Incompatible AddedNotCovered;
    EnumArrayExtended "ENUM_ARRAY_EXTENDED" Compatible Unremarkable;
    EnumArrayNarrowed "ENUM_ARRAY_NARROWED" Incompatible FewerElements;
    EnumArrayChanged "ENUM_ARRAY_CHANGED" Incompatible TypeDifferent;
    CombinedTypeExtended "COMBINED_TYPE_EXTENDED" Compatible Unremarkable;
    CombinedTypeChanged "COMBINED_TYPE_CHANGED" Incompatible TypeDifferent;
    ProductTypeExtended "PRODUCT_TYPE_EXTENDED" Incompatible MoreElements;
    ProductTypeNarrowed "PRODUCT_TYPE_NARROWED" Compatible Unremarkable;
    SumTypeExtended "SUM_TYPE_EXTENDED" Compatible Unremarkable;
    SumTypeNarrowed "SUM_TYPE_NARROWED" Incompatible FewerElements;
    CombinedTypeSubschemasChanged "COMBINED_TYPE_SUBSCHEMAS_CHANGED" Incompatible TypeDifferent;
    NotTypeExtended "NOT_TYPE_EXTENDED" Incompatible MoreElements;
    NotTypeNarrowed "NOT_TYPE_NARROWED" Compatible Unremarkable;
}
