//! Cases: objects and arrays.

use super::Case;

pub(super) const OBJECTS: &[Case] = &[
    (
        r#"{"properties":{"a":{},"b":{},"c":{}},"required":["c"]}"#,
        r#"{"properties":{"a":{},"b":{"default":1},"c":{}},"required":["a","b"]}"#,
        &[
            "REQUIRED_ATTRIBUTE_ADDED #/required/a",
            "REQUIRED_ATTRIBUTE_WITH_DEFAULT_ADDED #/required/b",
            "REQUIRED_ATTRIBUTE_REMOVED #/required/c",
            "DEFAULT_CHANGED #/properties/b",
        ],
    ),
    (
        r#"{"type":"object"}"#,
        r#"{"maxProperties":3}"#,
        &["MAX_PROPERTIES_ADDED #/maxProperties"],
    ),
    (
        r#"{"maxProperties":3}"#,
        r#"{"type":"object"}"#,
        &["MAX_PROPERTIES_REMOVED #/maxProperties"],
    ),
    (
        r#"{"maxProperties":3}"#,
        r#"{"maxProperties":4}"#,
        &["MAX_PROPERTIES_INCREASED #/maxProperties"],
    ),
    (
        r#"{"maxProperties":3}"#,
        r#"{"maxProperties":2}"#,
        &["MAX_PROPERTIES_DECREASED #/maxProperties"],
    ),
    (
        r#"{"type":"object"}"#,
        r#"{"minProperties":3}"#,
        &["MIN_PROPERTIES_ADDED #/minProperties"],
    ),
    (
        r#"{"minProperties":3}"#,
        r#"{"type":"object"}"#,
        &["MIN_PROPERTIES_REMOVED #/minProperties"],
    ),
    (
        r#"{"minProperties":3}"#,
        r#"{"minProperties":4}"#,
        &["MIN_PROPERTIES_INCREASED #/minProperties"],
    ),
    (
        r#"{"minProperties":3}"#,
        r#"{"minProperties":2}"#,
        &["MIN_PROPERTIES_DECREASED #/minProperties"],
    ),
    (
        r#"{"additionalProperties":false}"#,
        r#"{"additionalProperties":true}"#,
        &["ADDITIONAL_PROPERTIES_ADDED #/additionalProperties"],
    ),
    (
        r#"{"type":"object"}"#,
        r#"{"additionalProperties":false}"#,
        &["ADDITIONAL_PROPERTIES_REMOVED #/additionalProperties"],
    ),
    (
        r#"{"additionalProperties":{"type":"string"}}"#,
        r#"{"type":"object"}"#,
        &["ADDITIONAL_PROPERTIES_EXTENDED #/additionalProperties"],
    ),
    (
        r#"{"type":"object"}"#,
        r#"{"additionalProperties":{"type":"string"}}"#,
        &["ADDITIONAL_PROPERTIES_NARROWED #/additionalProperties"],
    ),
    (
        r#"{"additionalProperties":{"type":"number"}}"#,
        r#"{"additionalProperties":{"type":"integer"}}"#,
        &["TYPE_NARROWED #/additionalProperties"],
    ),
    (
        r#"{"dependencies":{"b":["x"],"c":["x"],"d":["x","y"],"e":["x"],"g":{"type":"object"}}}"#,
        r#"{"dependencies":{"a":["x"],"c":["x","y"],"d":["x"],"e":["y"],"f":{"required":["x"]}}}"#,
        &[
            "DEPENDENCY_ARRAY_ADDED #/dependencies/a",
            "DEPENDENCY_ARRAY_REMOVED #/dependencies/b",
            "DEPENDENCY_ARRAY_EXTENDED #/dependencies/c",
            "DEPENDENCY_ARRAY_NARROWED #/dependencies/d",
            "DEPENDENCY_ARRAY_CHANGED #/dependencies/e",
            "DEPENDENCY_SCHEMA_ADDED #/dependencies/f",
            "DEPENDENCY_SCHEMA_REMOVED #/dependencies/g",
        ],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","dependentRequired":{"a":["x"]},"dependentSchemas":{"b":{"maxProperties":2}}}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","dependentRequired":{"a":["y"]},"dependentSchemas":{"b":{"maxProperties":1}}}"#,
        &[
            "DEPENDENCY_ARRAY_CHANGED #/dependencies/a",
            "MAX_PROPERTIES_DECREASED #/dependencies/b/maxProperties",
        ],
    ),
];

pub(super) const CONTENT_MODELS: &[Case] = &[
    (
        r#"{"type":"object"}"#,
        r#"{"properties":{"a":{},"b":{"type":"string"},"c":{"type":"string"},"d":{"type":"string","default":""}},"required":["c","d"]}"#,
        &[
            "PROPERTY_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL #/properties/a",
            "OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL #/properties/b",
            "REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL #/properties/c",
            "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_OPEN_CONTENT_MODEL #/properties/d",
        ],
    ),
    (
        r#"{"additionalProperties":false}"#,
        r#"{"additionalProperties":false,"properties":{"b":{"type":"string"},"c":{"type":"string"},"d":{"type":"string","default":""}},"required":["c","d"]}"#,
        &[
            "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/b",
            "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/c",
            "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/d",
        ],
    ),
    (
        r#"{"properties":{"a":{"type":"string"}}}"#,
        r#"{"type":"object"}"#,
        &["PROPERTY_REMOVED_FROM_OPEN_CONTENT_MODEL #/properties/a"],
    ),
    (
        r#"{"additionalProperties":false,"properties":{"a":{"type":"string"},"b":false}}"#,
        r#"{"additionalProperties":false}"#,
        &[
            "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL #/properties/a",
            "PROPERTY_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL #/properties/b",
        ],
    ),
    (
        r#"{"additionalProperties":false,"properties":{"sa":{"type":"string"},"sb":{"type":"number"},"c":{}}}"#,
        r#"{"patternProperties":{"^s":{"type":"string"}},"additionalProperties":false}"#,
        &[
            "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL #/properties/c",
            "PROPERTY_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/sa",
            "TYPE_CHANGED #/properties/sb",
            "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/sb",
        ],
    ),
    (
        r#"{"additionalProperties":{"type":"string"}}"#,
        r#"{"additionalProperties":{"type":"string"},"properties":{"a":{"type":"string"},"b":{"type":"number"}}}"#,
        &[
            "PROPERTY_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/a",
            "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/a",
            "TYPE_CHANGED #/properties/b",
            "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/b",
            "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/b",
        ],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedProperties":{"type":"string"}}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedProperties":{"type":"string"},"properties":{"a":{"type":"string"}}}"#,
        &[
            "PROPERTY_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/a",
            "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/a",
        ],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedProperties":false}"#,
        r#"{"type":"object"}"#,
        &["UNEVALUATED_PROPERTIES_ADDED #/unevaluatedProperties"],
    ),
    (
        r#"{"type":"object"}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedProperties":false}"#,
        &["UNEVALUATED_PROPERTIES_REMOVED #/unevaluatedProperties"],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2019-09/schema","unevaluatedProperties":{"type":"null"}}"#,
        r#"{"type":"object"}"#,
        &["UNEVALUATED_PROPERTIES_EXTENDED #/unevaluatedProperties"],
    ),
    (
        r#"{"type":"object"}"#,
        r#"{"$schema":"https://json-schema.org/draft/2019-09/schema","unevaluatedProperties":{"type":"null"}}"#,
        &["UNEVALUATED_PROPERTIES_NARROWED #/unevaluatedProperties"],
    ),
];

pub(super) const ARRAYS: &[Case] = &[
    (
        r#"{"type":"array"}"#,
        r#"{"items":{"type":"string"}}"#,
        &["SCHEMA_ADDED #/items"],
    ),
    (
        r#"{"items":{"type":"string"}}"#,
        r#"{"type":"array"}"#,
        &["SCHEMA_REMOVED #/items"],
    ),
    (
        r#"{"items":{"type":"string"}}"#,
        r#"{"items":{"type":"number"}}"#,
        &["TYPE_CHANGED #/items"],
    ),
    (
        r#"{"type":"array"}"#,
        r#"{"maxItems":3}"#,
        &["MAX_ITEMS_ADDED #/maxItems"],
    ),
    (
        r#"{"maxItems":3}"#,
        r#"{"type":"array"}"#,
        &["MAX_ITEMS_REMOVED #/maxItems"],
    ),
    (
        r#"{"maxItems":3}"#,
        r#"{"maxItems":4}"#,
        &["MAX_ITEMS_INCREASED #/maxItems"],
    ),
    (
        r#"{"maxItems":3}"#,
        r#"{"maxItems":2}"#,
        &["MAX_ITEMS_DECREASED #/maxItems"],
    ),
    (
        r#"{"type":"array"}"#,
        r#"{"minItems":3}"#,
        &["MIN_ITEMS_ADDED #/minItems"],
    ),
    (
        r#"{"minItems":3}"#,
        r#"{"type":"array"}"#,
        &["MIN_ITEMS_REMOVED #/minItems"],
    ),
    (
        r#"{"minItems":3}"#,
        r#"{"minItems":4}"#,
        &["MIN_ITEMS_INCREASED #/minItems"],
    ),
    (
        r#"{"minItems":3}"#,
        r#"{"minItems":2}"#,
        &["MIN_ITEMS_DECREASED #/minItems"],
    ),
    (
        r#"{"type":"array"}"#,
        r#"{"uniqueItems":true}"#,
        &["UNIQUE_ITEMS_ADDED #/uniqueItems"],
    ),
    (
        r#"{"uniqueItems":true}"#,
        r#"{"type":"array"}"#,
        &["UNIQUE_ITEMS_REMOVED #/uniqueItems"],
    ),
    (
        r#"{"items":[{}],"additionalItems":false}"#,
        r#"{"items":[{}]}"#,
        &["ADDITIONAL_ITEMS_ADDED #/additionalItems"],
    ),
    (
        r#"{"items":[{}]}"#,
        r#"{"items":[{}],"additionalItems":false}"#,
        &["ADDITIONAL_ITEMS_REMOVED #/additionalItems"],
    ),
    (
        r#"{"items":[{}],"additionalItems":{"type":"null"}}"#,
        r#"{"items":[{}]}"#,
        &["ADDITIONAL_ITEMS_EXTENDED #/additionalItems"],
    ),
    (
        r#"{"items":[{}]}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","prefixItems":[{}],"items":{"type":"null"}}"#,
        &["ADDITIONAL_ITEMS_NARROWED #/additionalItems"],
    ),
    (
        r#"{"items":[{}]}"#,
        r#"{"items":[{},{},{"type":"null"}]}"#,
        &[
            "ITEM_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL #/items/1",
            "ITEM_ADDED_TO_OPEN_CONTENT_MODEL #/items/2",
        ],
    ),
    (
        r#"{"items":[{}],"additionalItems":false}"#,
        r#"{"items":[{},{"type":"null"}],"additionalItems":false}"#,
        &["ITEM_ADDED_TO_CLOSED_CONTENT_MODEL #/items/1"],
    ),
    (
        r#"{"items":[{},{"type":"null"}]}"#,
        r#"{"items":[{}]}"#,
        &["ITEM_REMOVED_FROM_OPEN_CONTENT_MODEL #/items/1"],
    ),
    (
        r#"{"items":[{},{"type":"null"},false],"additionalItems":false}"#,
        r#"{"items":[{}],"additionalItems":false}"#,
        &[
            "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL #/items/1",
            "ITEM_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL #/items/2",
        ],
    ),
    (
        r#"{"items":[{},{"type":"null"},{"type":"string"}],"additionalItems":{"type":"null"}}"#,
        r#"{"items":[{}],"additionalItems":{"type":"null"}}"#,
        &[
            "ITEM_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/items/1",
            "TYPE_CHANGED #/items/2",
            "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/items/2",
        ],
    ),
    (
        r#"{"items":[{}],"additionalItems":{"type":"null"}}"#,
        r#"{"items":[{},{"type":"null"},{"type":"string"}],"additionalItems":{"type":"null"}}"#,
        &[
            "ITEM_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/items/1",
            "TYPE_CHANGED #/items/2",
            "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/items/2",
        ],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedItems":false}"#,
        r#"{"type":"array"}"#,
        &["UNEVALUATED_ITEMS_ADDED #/unevaluatedItems"],
    ),
    (
        r#"{"type":"array"}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedItems":false}"#,
        &["UNEVALUATED_ITEMS_REMOVED #/unevaluatedItems"],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedItems":{"type":"null"}}"#,
        r#"{"type":"array"}"#,
        &["UNEVALUATED_ITEMS_EXTENDED #/unevaluatedItems"],
    ),
    (
        r#"{"type":"array"}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unevaluatedItems":{"type":"null"}}"#,
        &["UNEVALUATED_ITEMS_NARROWED #/unevaluatedItems"],
    ),
    (
        r#"{"type":"array"}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","contains":{},"maxContains":3}"#,
        &[
            "MAX_CONTAINS_ADDED #/maxContains",
            "MIN_CONTAINS_ADDED #/minContains",
        ],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","contains":{},"maxContains":3}"#,
        r#"{"type":"array"}"#,
        &[
            "MAX_CONTAINS_REMOVED #/maxContains",
            "MIN_CONTAINS_REMOVED #/minContains",
        ],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","contains":{},"maxContains":3}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","contains":{},"maxContains":4,"minContains":2}"#,
        &[
            "MAX_CONTAINS_INCREASED #/maxContains",
            "MIN_CONTAINS_INCREASED #/minContains",
        ],
    ),
    (
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","contains":{},"maxContains":3}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","contains":{},"maxContains":2,"minContains":0}"#,
        &[
            "MAX_CONTAINS_DECREASED #/maxContains",
            "MIN_CONTAINS_DECREASED #/minContains",
        ],
    ),
];
