//! `#[derive(Schema)]`: what serde's derive makes of the type, as a shape.
//!
//! The attributes of serde that change the JSON are followed; those that cannot be told in a schema
//! are refused where they stand.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DataEnum, DeriveInput, Error, Expr, ExprLit, ExprPath, Field, Fields, Lit,
    LitStr, Meta, Result, Token, Variant,
};

/// What serde is told about a container, a field or a variant.
#[derive(Default)]
struct Serde {
    rename: Option<String>,
    rename_all: Option<LitStr>,
    default: Option<DefaultValue>,
    skip: bool,
    transparent: bool,
}

enum DefaultValue {
    Trait,
    Function(ExprPath),
}

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if let Some(parameter) = input.generics.type_params().next() {
        let text = "a type with a schema has no type parameters: each of its forms would need a name of its own";
        return Err(Error::new(parameter.span(), text));
    }
    let container = serde(&input.attrs)?;
    let name = match name(&input.attrs)? {
        Some(name) => name,
        None => container
            .rename
            .clone()
            .unwrap_or_else(|| input.ident.to_string()),
    };
    let doc = doc(&input.attrs);
    let shape = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if container.transparent && fields.named.len() == 1 => {
                transparent(fields.named.first())
            }
            Fields::Named(fields) => {
                let fields = described(fields.named.iter(), &container)?;
                defined(
                    &name,
                    &quote! { ::wharf::schema::Definition::Record { doc: #doc, fields: #fields } },
                )
            }
            // serde writes a newtype as what is in it.
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                transparent(fields.unnamed.first())
            }
            _ => {
                let text = "a type with a schema has named fields, or wraps one value";
                return Err(Error::new(input.ident.span(), text));
            }
        },
        Data::Enum(data) => enumeration(&name, &doc, data, &container)?,
        Data::Union(_) => {
            let text = "serde knows no unions";
            return Err(Error::new(input.ident.span(), text));
        }
    };
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::wharf::Schema for #name #arguments #bounds {
            fn shape(definitions: &mut ::wharf::schema::Definitions) -> ::wharf::schema::Shape {
                #shape
            }
        }
    })
}

/// The shape of an enum: one of some strings, or a choice.
fn enumeration(
    name: &str,
    doc: &TokenStream,
    data: &DataEnum,
    container: &Serde,
) -> Result<TokenStream> {
    let variants: Vec<(&Variant, String)> = data
        .variants
        .iter()
        .filter_map(|variant| renamed(variant, container).transpose())
        .collect::<Result<_>>()?;
    let definition = if variants
        .iter()
        .all(|(variant, _)| matches!(variant.fields, Fields::Unit))
    {
        let symbols = variants.iter().map(|(_, name)| name);
        quote! {
            ::wharf::schema::Definition::Enum {
                doc: #doc,
                symbols: ::std::vec![#(::std::string::String::from(#symbols)),*],
            }
        }
    } else {
        let variants = variants
            .iter()
            .map(|(variant, name)| content(variant, name))
            .collect::<Result<Vec<_>>>()?;
        quote! {
            ::wharf::schema::Definition::Choice {
                doc: #doc,
                variants: ::std::vec![#(#variants),*],
            }
        }
    };
    Ok(defined(name, &definition))
}

fn defined(name: &str, definition: &TokenStream) -> TokenStream {
    quote! { definitions.define::<Self>(#name, |definitions| #definition) }
}

fn transparent(field: Option<&Field>) -> TokenStream {
    let kind = field.map(|field| &field.ty);
    quote! { <#kind as ::wharf::Schema>::shape(definitions) }
}

/// The fields of a struct or a variant.
fn described<'a>(
    fields: impl Iterator<Item = &'a Field>,
    container: &Serde,
) -> Result<TokenStream> {
    let mut described = Vec::new();
    for field in fields {
        let Some(ident) = &field.ident else { continue };
        let own = serde(&field.attrs)?;
        if own.skip {
            continue;
        }
        let plain = ident.to_string();
        let plain = plain.strip_prefix("r#").unwrap_or(&plain);
        let name = match own.rename {
            Some(name) => name,
            None => cased(plain, container.rename_all.as_ref(), false)?,
        };
        let (doc, kind) = (doc(&field.attrs), &field.ty);
        let value = match (&own.default, &container.default) {
            (Some(DefaultValue::Trait), _) => {
                Some(quote! { <#kind as ::core::default::Default>::default() })
            }
            (Some(DefaultValue::Function(function)), _) => Some(quote! { #function() }),
            (None, Some(DefaultValue::Trait)) => {
                Some(quote! { <Self as ::core::default::Default>::default().#ident })
            }
            (None, Some(DefaultValue::Function(function))) => Some(quote! { #function().#ident }),
            (None, None) => None,
        };
        let default = match value {
            Some(value) => quote! { ::wharf::schema::default_of(&#value) },
            None => quote! { ::wharf::schema::default_of_absent(&shape) },
        };
        described.push(quote! {{
            let shape = <#kind as ::wharf::Schema>::shape(definitions);
            ::wharf::schema::Field {
                name: ::std::string::String::from(#name),
                doc: #doc,
                default: #default,
                shape,
            }
        }});
    }
    Ok(quote! { ::std::vec![#(#described),*] })
}

/// A variant with its name in JSON; `None` for one that serde skips.
fn renamed<'a>(variant: &'a Variant, container: &Serde) -> Result<Option<(&'a Variant, String)>> {
    let own = serde(&variant.attrs)?;
    if own.skip {
        return Ok(None);
    }
    let name = match own.rename {
        Some(name) => name,
        None => cased(
            &variant.ident.to_string(),
            container.rename_all.as_ref(),
            true,
        )?,
    };
    Ok(Some((variant, name)))
}

fn content(variant: &Variant, name: &str) -> Result<TokenStream> {
    let own = serde(&variant.attrs)?;
    let content = match &variant.fields {
        Fields::Unit => quote! { ::wharf::schema::Content::Unit },
        Fields::Named(fields) => {
            let fields = described(fields.named.iter(), &own)?;
            quote! { ::wharf::schema::Content::Fields(#fields) }
        }
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            let shape = transparent(fields.unnamed.first());
            quote! { ::wharf::schema::Content::Value(#shape) }
        }
        Fields::Unnamed(fields) => {
            let text = "a variant with a schema has named fields, one value, or nothing";
            return Err(Error::new(fields.span(), text));
        }
    };
    Ok(quote! {
        ::wharf::schema::Variant { name: ::std::string::String::from(#name), content: #content }
    })
}

/// The name of `#[schema(name = "…")]`.
fn name(attributes: &[Attribute]) -> Result<Option<String>> {
    let mut name = None;
    for attribute in attributes {
        if attribute.path().is_ident("schema") {
            attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("name") {
                    return Err(meta.error("expected `name`"));
                }
                name = Some(meta.value()?.parse::<LitStr>()?.value());
                Ok(())
            })?;
        }
    }
    Ok(name)
}

/// What serde is told here.
fn serde(attributes: &[Attribute]) -> Result<Serde> {
    let mut found = Serde::default();
    for attribute in attributes {
        if !attribute.path().is_ident("serde") {
            continue;
        }
        let items = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?;
        for item in items {
            read(&item, &mut found)?;
        }
    }
    Ok(found)
}

fn read(item: &Meta, found: &mut Serde) -> Result<()> {
    let name = item.path().get_ident().map(ToString::to_string);
    match (name.as_deref(), item) {
        (Some("rename"), Meta::NameValue(pair)) => found.rename = Some(text(&pair.value)?.value()),
        (Some("rename_all"), Meta::NameValue(pair)) => found.rename_all = Some(text(&pair.value)?),
        (Some("default"), Meta::Path(_)) => found.default = Some(DefaultValue::Trait),
        (Some("default"), Meta::NameValue(pair)) => {
            found.default = Some(DefaultValue::Function(text(&pair.value)?.parse()?));
        }
        (Some("skip"), _) => found.skip = true,
        (Some("transparent"), _) => found.transparent = true,
        (
            Some(
                "deny_unknown_fields"
                | "alias"
                | "crate"
                | "bound"
                | "expecting"
                | "borrow"
                | "skip_serializing_if",
            ),
            _,
        ) => {}
        (name, item) => {
            let name = name.unwrap_or_default();
            let text = format!(
                "`{name}` of serde cannot be told in a schema; leave it out, or implement `wharf::Schema` by hand"
            );
            return Err(Error::new(item.span(), text));
        }
    }
    Ok(())
}

fn text(value: &Expr) -> Result<LitStr> {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Ok(text.clone()),
        other => Err(Error::new(other.span(), "a text is expected")),
    }
}

/// The first paragraph of the documentation, as an expression.
fn doc(attributes: &[Attribute]) -> TokenStream {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        if !pair.path.is_ident("doc") {
            return None;
        }
        text(&pair.value)
            .ok()
            .map(|line| line.value().trim().to_owned())
    });
    let paragraph: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    match paragraph.join(" ") {
        empty if empty.is_empty() => quote! { ::core::option::Option::None },
        paragraph => quote! {
            ::core::option::Option::Some(::std::string::String::from(#paragraph))
        },
    }
}

/// A name under serde's `rename_all`; those of variants begin with a capital.
fn cased(name: &str, rule: Option<&LitStr>, is_variant: bool) -> Result<String> {
    let Some(rule) = rule else {
        return Ok(name.to_owned());
    };
    let words = words(name, is_variant);
    let capital = |word: &str| {
        let mut characters = word.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect::<String>()
    };
    Ok(match rule.value().as_str() {
        "lowercase" => match is_variant {
            true => words.concat(),
            false => name.to_owned(),
        },
        "UPPERCASE" => match is_variant {
            true => words.concat().to_ascii_uppercase(),
            false => name.to_ascii_uppercase(),
        },
        "PascalCase" => words.iter().map(|word| capital(word)).collect(),
        "camelCase" => {
            let mut all = words.iter();
            let first = all.next().cloned().unwrap_or_default();
            all.fold(first, |text, word| text + &capital(word))
        }
        "snake_case" => words.join("_"),
        "SCREAMING_SNAKE_CASE" => words.join("_").to_ascii_uppercase(),
        "kebab-case" => words.join("-"),
        "SCREAMING-KEBAB-CASE" => words.join("-").to_ascii_uppercase(),
        _ => return Err(Error::new(rule.span(), "serde knows no such rule")),
    })
}

/// The words of a name as serde divides it, in small letters: variants before each capital, fields at
/// underscores.
fn words(name: &str, is_variant: bool) -> Vec<String> {
    if !is_variant {
        return name.split('_').map(str::to_owned).collect();
    }
    let mut words: Vec<String> = Vec::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() || words.is_empty() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(character.to_ascii_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> LitStr {
        LitStr::new(text, proc_macro2::Span::call_site())
    }

    #[test]
    fn names_are_cased_as_serde_does() {
        for (rule, field, variant) in [
            ("lowercase", "unit_price", "onhold"),
            ("UPPERCASE", "UNIT_PRICE", "ONHOLD"),
            ("PascalCase", "UnitPrice", "OnHold"),
            ("camelCase", "unitPrice", "onHold"),
            ("snake_case", "unit_price", "on_hold"),
            ("SCREAMING_SNAKE_CASE", "UNIT_PRICE", "ON_HOLD"),
            ("kebab-case", "unit-price", "on-hold"),
            ("SCREAMING-KEBAB-CASE", "UNIT-PRICE", "ON-HOLD"),
        ] {
            let rule = literal(rule);
            assert_eq!(cased("unit_price", Some(&rule), false).unwrap(), field);
            assert_eq!(cased("OnHold", Some(&rule), true).unwrap(), variant);
        }
        assert!(cased("x", Some(&literal("Title Case")), false).is_err());
    }

    #[test]
    fn what_a_schema_cannot_say_is_refused() {
        for refused in [
            "struct A { #[serde(flatten)] b: B }",
            "#[serde(tag = \"kind\")] enum A { B { c: u8 } }",
            "#[serde(untagged)] enum A { B(u8) }",
            "struct A { #[serde(with = \"hex\")] b: Vec<u8> }",
            "struct A<T> { b: T }",
            "struct A(u8, u8);",
            "enum A { B(u8, u8) }",
        ] {
            let input: DeriveInput = syn::parse_str(refused).unwrap();
            assert!(derive(&input).is_err(), "{refused}");
        }
    }
}
