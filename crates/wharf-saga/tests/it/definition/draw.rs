//! Pictures.

use serde_json::json;
use wharf_saga::definition::{Definition, Drawing, Mark, Marks};

use super::read::CHECKOUT;

fn marks() -> Marks {
    [
        ("ReserveStock", Mark::Undone),
        ("ChargeCard", Mark::Failed),
        ("Pack", Mark::Running),
    ]
    .map(|(name, mark)| (name.to_owned(), mark))
    .into()
}

#[test]
fn a_checkout_is_drawn_for_mermaid() {
    let machine = Definition::read(CHECKOUT).unwrap().definition.machine;
    insta::assert_snapshot!(machine.draw(Drawing::Mermaid, &marks()));
}

#[test]
fn a_checkout_is_drawn_for_graphviz() {
    let machine = Definition::read(CHECKOUT).unwrap().definition.machine;
    insta::assert_snapshot!(machine.draw(Drawing::Dot, &marks()));
}

#[test]
fn a_checkout_is_drawn_as_a_picture() {
    let machine = Definition::read(CHECKOUT).unwrap().definition.machine;
    let picture = machine.draw(Drawing::Svg, &marks());
    insta::assert_snapshot!(picture);
    assert_eq!(picture, machine.draw(Drawing::Svg, &marks()));
}

#[test]
fn names_cannot_become_markup() {
    let name = "a\"]<script>x</script>\\\"; end & #35;";
    let machine = json!({ "StartAt": name, "States": { name: { "Type": "Task",
        "Resource": "arn:\"<b>\\", "Next": "B", "Catch": [{ "ErrorEquals": ["States.ALL"], "Next": name }] },
        "B": { "Type": "Succeed" } } });
    let machine = Definition::of(&machine).unwrap().definition.machine;
    let svg = machine.draw(Drawing::Svg, &Marks::new());
    assert!(!svg.contains("<script") && !svg.contains("<b>"), "{svg}");
    let mermaid = machine.draw(Drawing::Mermaid, &Marks::new());
    assert!(
        !mermaid.contains("<script") && !mermaid.contains("a\"]"),
        "{mermaid}"
    );
    let dot = machine.draw(Drawing::Dot, &Marks::new());
    assert!(dot.contains("a\\\"]"), "{dot}");
}
