//! What is a schema, what is none, and the text it has.

use wharf_schema::avro::Schema;
use wharf_schema::{Dependency, Limits};

use super::{refusal, schema};

#[test]
fn attributes_are_printed_in_javas_order() {
    let text = r#"{"aliases":["Old","x.Other"],"zeta":[1,2.50],"fields":[
        {"type":{"logicalType":"date","type":"int"},"custom":{"a":null},"aliases":["g"],
         "order":"descending","default":0,"doc":"d","name":"f"},
        {"name":"s","type":{"type":"string"},"order":"ascending"}],
        "doc":"about","namespace":"n.s","name":"R","type":"record"}"#;
    assert_eq!(
        schema(text).canonical(),
        concat!(
            r#"{"type":"record","name":"R","namespace":"n.s","doc":"about","fields":["#,
            r#"{"name":"f","type":{"type":"int","logicalType":"date"},"doc":"d","default":0,"#,
            r#""order":"descending","aliases":["g"],"custom":{"a":null}},"#,
            r#"{"name":"s","type":"string"}],"zeta":[1,2.5],"aliases":["Old","x.Other"]}"#
        )
    );
}

#[test]
fn a_namespace_is_left_out_where_it_is_the_enclosing_one() {
    let text = r#"{"type":"record","name":"a.b.R","fields":[
        {"name":"e","type":{"type":"enum","name":"E","namespace":"a.b","symbols":["X"]}},
        {"name":"f","type":{"type":"fixed","name":"c.F","size":1}},
        {"name":"n","type":{"type":"fixed","name":"N","namespace":"","size":1}},
        {"name":"again","type":["a.b.E","c.F",".N"]}]}"#;
    assert_eq!(
        schema(text).canonical(),
        concat!(
            r#"{"type":"record","name":"R","namespace":"a.b","fields":["#,
            r#"{"name":"e","type":{"type":"enum","name":"E","symbols":["X"]}},"#,
            r#"{"name":"f","type":{"type":"fixed","name":"F","namespace":"c","size":1}},"#,
            r#"{"name":"n","type":{"type":"fixed","name":"N","namespace":"","size":1}},"#,
            r#"{"name":"again","type":["E","c.F","N"]}]}"#
        )
    );
}

#[test]
fn references_stay_names_and_are_written_out_when_resolved() {
    let item = Dependency {
        name: "shop.Item".to_owned(),
        text: r#"{"type":"record","name":"Item","namespace":"shop","fields":[]}"#.to_owned(),
    };
    let text = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"item","type":"shop.Item"}]}"#;
    let order = Schema::parse(text, &[item], &Limits::default()).unwrap();
    assert_eq!(
        order.canonical(),
        concat!(
            r#"{"type":"record","name":"Order","namespace":"shop","fields":["#,
            r#"{"name":"item","type":"Item"}]}"#
        )
    );
    let inlined = schema(
        r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"item","type":{"type":"record","name":"Item","fields":[]}}]}"#,
    );
    assert_eq!(order.formatted("resolved"), Some(inlined.canonical()));
    assert_eq!(order.name().as_deref(), Some("shop.Order"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, words) in [
        (r#"{"type":"record","name":"R"}"#, "no list \"fields\""),
        (
            r#"{"type":"record","name":"1R","fields":[]}"#,
            "begins with '1'",
        ),
        (
            r#"{"type":"record","name":"a.2.R","fields":[]}"#,
            "begins with '2'",
        ),
        (
            r#"{"type":"record","name":"string","fields":[]}"#,
            "may not be called string",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Lost"}]}"#,
            "the type Lost that is used at /fields/0/type is not defined",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "two fields a, at /fields/1",
        ),
        (
            r#"{"type":"enum","name":"E","symbols":["A","A"]}"#,
            "there twice",
        ),
        (
            r#"{"type":"enum","name":"E","symbols":["a-b"]}"#,
            "'-' in it",
        ),
        (
            r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#,
            "none of its symbols",
        ),
        (r#"["int","int"]"#, "int is twice in one union"),
        (r#"["null",["int"]]"#, "directly within a union"),
        (r#"{"type":"fixed","name":"F","size":-1}"#, "no \"size\""),
        (r#"{"type":"fixed","name":"F","size":"1"}"#, "no \"size\""),
        (r#"{"type":"array"}"#, "the array has no \"items\""),
        (r#"{"name":"R"}"#, "no \"type\""),
        ("7", "7 is no type"),
        ("{", "no JSON"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","order":"up"}]}"#,
            "none of ascending",
        ),
        (
            r#"[{"type":"fixed","name":"F","size":1},{"type":"array","items":{"type":"fixed","name":"F","size":2}}]"#,
            "F is defined twice",
        ),
    ] {
        let what = refusal(text);
        assert!(what.contains(words), "{text}: {what}");
    }
}

#[test]
fn a_default_must_fit_its_type_unless_the_schema_is_an_old_one() {
    let field = |kind: &str, default: &str| {
        format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{kind},"default":{default}}}]}}"#
        )
    };
    for (kind, default) in [
        (r#""int""#, "2147483648"),
        (r#""int""#, "1.0"),
        (r#""string""#, "1"),
        (r#"["null","int"]"#, "\"x\""),
        (r#"{"type":"array","items":"int"}"#, "[null]"),
        (
            r#"{"type":"record","name":"Q","fields":[{"name":"q","type":"int"}]}"#,
            "{}",
        ),
        (r#"["null","R"]"#, "{\"f\":1}"),
    ] {
        let text = field(kind, default);
        assert!(
            refusal(&text).contains("Invalid default for field f"),
            "{text}"
        );
        Schema::parse_stored(&text, &[], &Limits::default()).unwrap();
    }
    for (kind, default) in [
        (r#""long""#, "9223372036854775807"),
        (r#""double""#, "1"),
        (r#""double""#, "\"NaN\""),
        (r#"["null","int"]"#, "7"),
        (
            r#"{"type":"record","name":"Q","fields":[{"name":"q","type":"int","default":1}]}"#,
            "{}",
        ),
    ] {
        schema(&field(kind, default));
    }
}

#[test]
fn a_name_may_be_used_before_it_is_defined() {
    let text = r#"[{"type":"array","items":"F"},{"type":"fixed","name":"F","size":1}]"#;
    assert_eq!(
        schema(text).canonical(),
        r#"[{"type":"array","items":{"type":"fixed","name":"F","size":1}},"F"]"#
    );
}

#[test]
fn a_schema_is_refused_if_its_canonical_text_could_not_be_read_again() {
    let chain = |length: usize| {
        let link = |index: usize| {
            let next = index + 1;
            format!(
                r#"{{"type":"record","name":"L{index}","fields":[{{"name":"n","type":"L{next}"}}]}}"#
            )
        };
        let mut links: Vec<String> = (0..length).map(link).collect();
        links.push(format!(r#"{{"type":"fixed","name":"L{length}","size":1}}"#));
        format!("[{}]", links.join(","))
    };
    let longest = (1..100)
        .take_while(|length| Schema::parse(&chain(*length), &[], &Limits::default()).is_ok())
        .last()
        .unwrap();
    assert!((40..43).contains(&longest), "{longest}");
    let canonical = schema(&chain(longest)).canonical();
    assert_eq!(schema(&canonical).canonical(), canonical);
    assert!(refusal(&chain(longest + 1)).contains("nested too deep"));
    // The same without a name before its definition is refused by the JSON reader.
    let deepest = |depth: usize| {
        format!(
            "{}{}{}",
            r#"{"type":"array","items":"#.repeat(depth),
            "\"int\"",
            "}".repeat(depth)
        )
    };
    assert_eq!(schema(&deepest(127)).canonical(), deepest(127));
    assert!(refusal(&deepest(128)).contains("no JSON"));
}

#[test]
fn what_is_too_deep_or_too_much_is_refused() {
    let deep = format!(
        "{}{}{}",
        r#"{"type":"array","items":"#.repeat(200),
        "\"int\"",
        "}".repeat(200)
    );
    assert!(refusal(&deep).contains("no JSON"));
    let limits = Limits {
        depth_max: 10,
        nodes_max: 50,
        ..Limits::default()
    };
    let deep = format!(
        "{}{}{}",
        r#"{"type":"array","items":"#.repeat(11),
        "\"int\"",
        "}".repeat(11)
    );
    let error = Schema::parse(&deep, &[], &limits).map(|it| it.canonical());
    assert!(error.unwrap_err().what.contains("deeper than 10"));
    // Names put together from the end make a chain that no text nests.
    let link = |index: usize| {
        format!(
            r#"{{"type":"record","name":"L{index}","fields":[{{"name":"n","type":"L{}"}}]}}"#,
            index + 1
        )
    };
    let mut chain: Vec<String> = (0..20).map(link).collect();
    chain.push(r#"{"type":"fixed","name":"L20","size":1}"#.to_owned());
    let error = Schema::parse(&format!("[{}]", chain.join(",")), &[], &limits);
    assert!(error.unwrap_err().what.contains("deeper than 10"));
    let symbols: Vec<String> = (0..100).map(|it| format!("\"S{it}\"")).collect();
    let huge = format!(
        r#"{{"type":"enum","name":"E","symbols":[{}]}}"#,
        symbols.join(",")
    );
    let error = Schema::parse(&huge, &[], &limits);
    assert!(error.unwrap_err().what.contains("more than 50"));
}

#[test]
fn a_normalized_text_has_one_order_and_form() {
    let text = r#"{"type":"record","name":"R","namespace":"n","doc":"","zz":1,"aliases":["Z","A"],
        "aa":{"y":1,"x":[{"d":0,"c":0}]},"fields":[
        {"name":"f","type":{"type":"bytes","scale":2,"custom":1,"precision":4,"logicalType":"decimal"},
         "z":1,"a":2,"order":"ascending","aliases":["q","p"]},
        {"name":"g","type":"float","default":1},
        {"name":"h","type":"double","default":3},
        {"name":"i","type":{"type":"map","values":"int","m":1,"b":2},"default":{"k":1,"j":2}},
        {"name":"l","type":{"type":"int","logicalType":"unheard-of","b":1}},
        {"name":"m","type":["null","string"],"default":"later branch"}]}"#;
    let normalized = concat!(
        r#"{"type":"record","name":"R","namespace":"n","fields":["#,
        r#"{"name":"f","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2,"custom":1},"#,
        r#""aliases":["p","q"],"a":2,"z":1},"#,
        r#"{"name":"g","type":"float","default":1.0},"#,
        r#"{"name":"h","type":"double","default":3.0},"#,
        r#"{"name":"i","type":{"type":"map","values":"int","b":2,"m":1},"default":{"j":2,"k":1}},"#,
        r#"{"name":"l","type":{"type":"int","b":1,"logicalType":"unheard-of"}},"#,
        r#"{"name":"m","type":["null","string"],"default":"later branch"}],"#,
        r#""aa":{"x":[{"c":0,"d":0}],"y":1},"zz":1,"aliases":["A","Z"]}"#
    );
    assert_eq!(schema(text).normalized(), normalized);
    assert_eq!(schema(normalized).normalized(), normalized);
}
