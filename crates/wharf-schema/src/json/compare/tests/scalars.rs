//! Cases: what schemas say of themselves, types, strings, numbers, combinations.

use super::Case;

pub(super) const NOTES_AND_TYPES: &[Case] = &[
    (r#"{"type":"string"}"#, r#"{"type":"string"}"#, &[]),
    (
        r#"{"$id":"http://a/b","title":"t","description":"d","default":1,"type":"integer"}"#,
        r#"{"$id":"http://a/c","title":"u","type":"integer"}"#,
        &[
            "ID_CHANGED #/",
            "TITLE_CHANGED #/",
            "DESCRIPTION_CHANGED #/",
            "DEFAULT_CHANGED #/",
        ],
    ),
    (
        r#"{"type":"string"}"#,
        r#"{"type":"boolean"}"#,
        &["TYPE_CHANGED #/"],
    ),
    (
        r#"{"type":"integer"}"#,
        r#"{"type":"number"}"#,
        &["TYPE_EXTENDED #/"],
    ),
    (
        r#"{"type":"number"}"#,
        r#"{"type":"integer"}"#,
        &["TYPE_NARROWED #/"],
    ),
    (r#"{"type":"string"}"#, "true", &[]),
    (r#"{"type":"string"}"#, "{}", &[]),
    ("{}", r#"{"type":"string"}"#, &["TYPE_CHANGED #/"]),
    ("false", r#"{"type":"string"}"#, &[]),
    ("{}", "true", &[]),
    (
        r#"{"type":"string","connect.type":"bytes"}"#,
        r#"{"type":"number","connect.type":"bytes"}"#,
        &[],
    ),
    (r#"{"const":1}"#, r#"{"const":1.0}"#, &[]),
    (
        r#"{"const":1}"#,
        r#"{"const":2}"#,
        &["ENUM_ARRAY_CHANGED #/const"],
    ),
    (
        r#"{"enum":["a"]}"#,
        r#"{"enum":["b","a"]}"#,
        &["ENUM_ARRAY_EXTENDED #/enum"],
    ),
    (
        r#"{"enum":["a","b"]}"#,
        r#"{"enum":["a"]}"#,
        &["ENUM_ARRAY_NARROWED #/enum"],
    ),
    (
        r#"{"enum":["a","b"]}"#,
        r#"{"enum":["a","c"]}"#,
        &["ENUM_ARRAY_CHANGED #/enum"],
    ),
    (
        r#"{"type":"string","enum":["a"]}"#,
        r#"{"type":"string","enum":["a","b"]}"#,
        &["ENUM_ARRAY_EXTENDED #/allOf/0/enum"],
    ),
    (
        r#"{"not":{"type":"number"}}"#,
        r#"{"not":{"type":"integer"}}"#,
        &["NOT_TYPE_NARROWED #/not"],
    ),
    (
        r#"{"not":{"type":"integer"}}"#,
        r#"{"not":{"type":"number"}}"#,
        &["NOT_TYPE_EXTENDED #/not"],
    ),
];

pub(super) const SCALARS: &[Case] = &[
    (
        "{\"type\":\"string\"}",
        r#"{"type":"string","maxLength":3}"#,
        &["MAX_LENGTH_ADDED #/maxLength"],
    ),
    (
        r#"{"type":"string","maxLength":3}"#,
        r#"{"type":"string"}"#,
        &["MAX_LENGTH_REMOVED #/maxLength"],
    ),
    (
        r#"{"maxLength":3}"#,
        r#"{"maxLength":4}"#,
        &["MAX_LENGTH_INCREASED #/maxLength"],
    ),
    (
        r#"{"maxLength":3}"#,
        r#"{"maxLength":2}"#,
        &["MAX_LENGTH_DECREASED #/maxLength"],
    ),
    (
        r#"{"type":"string"}"#,
        r#"{"type":"string","minLength":3}"#,
        &["MIN_LENGTH_ADDED #/minLength"],
    ),
    (
        r#"{"type":"string","minLength":3}"#,
        r#"{"type":"string"}"#,
        &["MIN_LENGTH_REMOVED #/minLength"],
    ),
    (
        r#"{"minLength":3}"#,
        r#"{"minLength":4}"#,
        &["MIN_LENGTH_INCREASED #/minLength"],
    ),
    (
        r#"{"minLength":3}"#,
        r#"{"minLength":2}"#,
        &["MIN_LENGTH_DECREASED #/minLength"],
    ),
    (
        r#"{"type":"string"}"#,
        r#"{"type":"string","pattern":"a"}"#,
        &["PATTERN_ADDED #/pattern"],
    ),
    (
        r#"{"type":"string","pattern":"a"}"#,
        r#"{"type":"string"}"#,
        &["PATTERN_REMOVED #/pattern"],
    ),
    (
        r#"{"pattern":"a"}"#,
        r#"{"pattern":"b"}"#,
        &["PATTERN_CHANGED #/pattern"],
    ),
    (
        r#"{"type":"number"}"#,
        r#"{"type":"number","maximum":3}"#,
        &["MAXIMUM_ADDED #/maximum"],
    ),
    (
        r#"{"type":"number","maximum":3}"#,
        r#"{"type":"number"}"#,
        &["MAXIMUM_REMOVED #/maximum"],
    ),
    (
        r#"{"maximum":3}"#,
        r#"{"maximum":3.5}"#,
        &["MAXIMUM_INCREASED #/maximum"],
    ),
    (
        r#"{"maximum":9007199254740993}"#,
        r#"{"maximum":9007199254740992}"#,
        &["MAXIMUM_DECREASED #/maximum"],
    ),
    (
        r#"{"type":"number"}"#,
        r#"{"type":"number","minimum":3}"#,
        &["MINIMUM_ADDED #/minimum"],
    ),
    (
        r#"{"type":"number","minimum":3}"#,
        r#"{"type":"number"}"#,
        &["MINIMUM_REMOVED #/minimum"],
    ),
    (
        r#"{"minimum":3}"#,
        r#"{"minimum":4}"#,
        &["MINIMUM_INCREASED #/minimum"],
    ),
    (
        r#"{"minimum":3}"#,
        r#"{"minimum":-4}"#,
        &["MINIMUM_DECREASED #/minimum"],
    ),
    (
        r#"{"type":"number"}"#,
        r#"{"exclusiveMaximum":3}"#,
        &["EXCLUSIVE_MAXIMUM_ADDED #/exclusiveMaximum"],
    ),
    (
        r#"{"type":"number","exclusiveMaximum":3}"#,
        r#"{"type":"number"}"#,
        &["EXCLUSIVE_MAXIMUM_REMOVED #/exclusiveMaximum"],
    ),
    (
        r#"{"exclusiveMaximum":3}"#,
        r#"{"exclusiveMaximum":4}"#,
        &["EXCLUSIVE_MAXIMUM_INCREASED #/exclusiveMaximum"],
    ),
    (
        r#"{"exclusiveMaximum":3}"#,
        r#"{"exclusiveMaximum":2}"#,
        &["EXCLUSIVE_MAXIMUM_DECREASED #/exclusiveMaximum"],
    ),
    (
        r#"{"type":"number"}"#,
        r#"{"exclusiveMinimum":3}"#,
        &["EXCLUSIVE_MINIMUM_ADDED #/exclusiveMinimum"],
    ),
    (
        r#"{"type":"number","exclusiveMinimum":3}"#,
        r#"{"type":"number"}"#,
        &["EXCLUSIVE_MINIMUM_REMOVED #/exclusiveMinimum"],
    ),
    (
        r#"{"exclusiveMinimum":3}"#,
        r#"{"exclusiveMinimum":4}"#,
        &["EXCLUSIVE_MINIMUM_INCREASED #/exclusiveMinimum"],
    ),
    (
        r#"{"exclusiveMinimum":3}"#,
        r#"{"exclusiveMinimum":2}"#,
        &["EXCLUSIVE_MINIMUM_DECREASED #/exclusiveMinimum"],
    ),
    (
        r#"{"$schema":"http://json-schema.org/draft-04/schema#","maximum":3}"#,
        r#"{"$schema":"http://json-schema.org/draft-04/schema#","maximum":3,"exclusiveMaximum":true}"#,
        &[
            "MAXIMUM_REMOVED #/maximum",
            "EXCLUSIVE_MAXIMUM_ADDED #/exclusiveMaximum",
        ],
    ),
    (
        r#"{"type":"number"}"#,
        r#"{"multipleOf":2}"#,
        &["MULTIPLE_OF_ADDED #/multipleOf"],
    ),
    (
        r#"{"multipleOf":2}"#,
        r#"{"type":"number"}"#,
        &["MULTIPLE_OF_REMOVED #/multipleOf"],
    ),
    (
        r#"{"multipleOf":2}"#,
        r#"{"multipleOf":4}"#,
        &["MULTIPLE_OF_EXPANDED #/multipleOf"],
    ),
    (
        r#"{"multipleOf":0.4}"#,
        r#"{"multipleOf":0.1}"#,
        &["MULTIPLE_OF_REDUCED #/multipleOf"],
    ),
    (
        r#"{"multipleOf":2}"#,
        r#"{"multipleOf":3}"#,
        &["MULTIPLE_OF_CHANGED #/multipleOf"],
    ),
];

pub(super) const COMBINATIONS: &[Case] = &[
    (
        r#"{"allOf":[{"minLength":1},{"maxLength":2}]}"#,
        r#"{"anyOf":[{"minLength":1},{"maxLength":2}]}"#,
        &["COMBINED_TYPE_EXTENDED #/"],
    ),
    (
        r#"{"anyOf":[{"type":"string"}]}"#,
        r#"{"oneOf":[{"type":"string"}]}"#,
        &["COMBINED_TYPE_EXTENDED #/"],
    ),
    (
        r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#,
        r#"{"oneOf":[{"type":"string"},{"type":"null"}]}"#,
        &["COMBINED_TYPE_CHANGED #/"],
    ),
    (
        r#"{"allOf":[{"minLength":1}]}"#,
        r#"{"allOf":[{"minLength":1},{"maxLength":2}]}"#,
        &["PRODUCT_TYPE_EXTENDED #/"],
    ),
    (
        r#"{"allOf":[{"minLength":1},{"maxLength":2}]}"#,
        r#"{"allOf":[{"minLength":1}]}"#,
        &["PRODUCT_TYPE_NARROWED #/"],
    ),
    (
        r#"{"type":["string","null"]}"#,
        r#"{"type":["string","null","boolean"]}"#,
        &["SUM_TYPE_EXTENDED #/"],
    ),
    (
        r#"{"type":["string","null","boolean"]}"#,
        r#"{"type":["string","null"]}"#,
        &["SUM_TYPE_NARROWED #/"],
    ),
    (
        r#"{"type":"string"}"#,
        r#"{"type":["null","string"]}"#,
        &["SUM_TYPE_EXTENDED #/"],
    ),
    (
        r#"{"type":"string"}"#,
        r#"{"oneOf":[{"type":"string"}]}"#,
        &[],
    ),
    (
        r#"{"oneOf":[{"type":"string"}]}"#,
        r#"{"type":"string"}"#,
        &[],
    ),
    (
        r#"{"type":["null","string"]}"#,
        r#"{"type":"string"}"#,
        &["TYPE_CHANGED #/"],
    ),
    (
        r#"{"allOf":[{"minLength":1},{"maxLength":2}]}"#,
        r#"{"type":"string","maxLength":3}"#,
        &[
            "MAX_LENGTH_INCREASED #/maxLength",
            "PRODUCT_TYPE_NARROWED #/",
        ],
    ),
    (
        r#"{"oneOf":[{"type":"string"},{"type":"null"}]}"#,
        r#"{"oneOf":[{"type":"string"},{"type":"boolean"}]}"#,
        &["COMBINED_TYPE_SUBSCHEMAS_CHANGED #/"],
    ),
    (
        r#"{"oneOf":[{"type":"integer"},{"type":"integer","maximum":5}]}"#,
        r#"{"oneOf":[{"type":"integer","maximum":5},{"type":"integer"}]}"#,
        &[],
    ),
    (
        r#"{"oneOf":[{"type":"integer","maximum":5},{"type":"integer"}]}"#,
        r#"{"oneOf":[{"type":"number"},{"type":"integer","maximum":5}]}"#,
        &["TYPE_EXTENDED #/oneOf/1"],
    ),
    (
        r#"{"anyOf":[{"type":"null"},{"type":"null"}]}"#,
        r#"{"anyOf":[{"type":"null"}]}"#,
        &[],
    ),
];
