//! `docs/reference.md`, made from the CRDs.

use std::fmt::Write;

use crate::docs_page;
use fedora_message::api::{sender, v1alpha1};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

const HEAD: &str = "# Reference\n\n\
    All fields of both resources, as `kubectl explain fmsg --recursive` and `kubectl explain fmsender\n\
    --recursive` show them. `just crds` writes this page. [Send a message](using.md) and [Senders](senders.md)\n\
    have examples.\n";

#[test]
fn reference_is_up_to_date() {
    let sections = [v1alpha1::definition(), sender::definition()].iter().map(section).collect::<String>();
    docs_page::assert_current("reference.md", &format!("{HEAD}{sections}"), "just crds");
}

/// Returns the section about one resource.
fn section(crd: &CustomResourceDefinition) -> String {
    let (names, version) = (&crd.spec.names, &crd.spec.versions[0]);
    let short = names.short_names.as_ref().map_or("", |names| &names[0]);
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()).expect("a schema");
    let mut text = format!(
        "\n## {}\n\n`apiVersion: {}/{}`, short name `{short}`.\n\n{}\n",
        names.kind,
        crd.spec.group,
        version.name,
        wrapped(description(schema))
    );
    for part in ["spec", "status"] {
        let schema = &schema.properties.as_ref().expect("fields")[part];
        let _ = write!(
            text,
            "\n### {} {part}\n\n{}\n\n| field | type | meaning |\n|---|---|---|\n",
            names.kind,
            wrapped(description(schema))
        );
        rows(&mut text, &format!("{part}."), schema);
    }
    let columns = version.additional_printer_columns.iter().flatten();
    let columns = columns.map(|column| {
        let wide = if column.priority.unwrap_or(0) > 0 { " (with `-o wide`)" } else { "" };
        format!("| `{}`{wide} | {} |\n", column.name.to_uppercase(), cell(column.description.as_deref().unwrap_or("")))
    });
    let _ = write!(
        text,
        "\n### Columns of kubectl get {short}\n\n| column | meaning |\n|---|---|\n{}",
        columns.collect::<String>()
    );
    text
}

/// Adds a row for each field below `prefix`. Required fields come first, then the order of the alphabet.
fn rows(text: &mut String, prefix: &str, schema: &JSONSchemaProps) {
    let required = schema.required.as_deref().unwrap_or_default();
    let mut fields: Vec<_> = schema.properties.iter().flatten().collect();
    fields.sort_by_key(|(name, _)| !required.contains(name));
    for (name, field) in fields {
        let path = format!("{prefix}{name}");
        let mark = if required.contains(name) { ", required" } else { "" };
        let _ = writeln!(text, "| `{path}`{mark} | {} | {} |", kind(field), cell(description(field)));
        match &field.items {
            // Conditions are those of Kubernetes.
            Some(_) => {}
            None => rows(text, &format!("{path}."), field),
        }
    }
}

/// Returns the type of a field, with the values or bounds that the API server checks.
fn kind(field: &JSONSchemaProps) -> String {
    let of = |schema: &JSONSchemaProps| schema.type_.clone().unwrap_or_else(|| "any".to_owned());
    let mut kind = match &field.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => format!("list of {}s", of(item)),
        _ => of(field),
    };
    if let Some(format) = field.format.as_deref().filter(|format| *format == "date-time") {
        kind = format.replace('-', " ");
    }
    if let Some(values) = &field.enum_ {
        let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.0.as_str().unwrap_or_default())).collect();
        kind = values.join(", ");
    }
    match (field.minimum, field.maximum) {
        (Some(low), Some(high)) if high < f64::from(i32::MAX) => format!("{kind}, {low} to {high}"),
        (Some(low), _) => format!("{kind}, at least {low}"),
        _ => match field.max_length {
            Some(length) => format!("{kind}, at most {length} characters"),
            None => kind,
        },
    }
}

fn description(schema: &JSONSchemaProps) -> &str {
    schema.description.as_deref().unwrap_or_default()
}

/// Breaks lines as the other pages do.
fn wrapped(text: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        if length + word.len() >= 100 {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
        }
        lines += word;
        length += word.len() + 1;
    }
    lines
}

/// Escapes what would end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
