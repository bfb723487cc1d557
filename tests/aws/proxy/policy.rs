//! As much of IAM as it takes to say whether a policy allows a call: statements
//! with actions, resources and conditions, as "Policy evaluation logic" and "IAM
//! JSON policy elements" of the IAM user guide have them. `moto` evaluates neither
//! resources nor conditions, and `ministack` nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The keys of a request's context; each has its values.
pub(crate) type Context = BTreeMap<String, Vec<String>>;

/// One thing a caller must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) context: Context,
}

/// A policy as JSON, all of whose statements allow.
#[derive(Clone, Debug)]
pub(crate) struct Policy(Vec<Value>);

impl Policy {
    pub(crate) fn new(document: &Value) -> Self {
        let statements = document["Statement"].as_array().expect("statements");
        for statement in statements {
            assert_eq!(statement["Effect"], "Allow");
        }
        Self(statements.clone())
    }

    /// As JSON.
    pub(crate) fn document(&self) -> Value {
        json!({ "Version": "2012-10-17", "Statement": self.0 })
    }

    /// Its statements and their actions.
    pub(crate) fn actions(&self) -> Vec<(String, String)> {
        let of = |statement: &Value| {
            let sid = texts(&statement["Sid"]).concat();
            let actions = texts(&statement["Action"]).into_iter();
            actions
                .map(|action| (sid.clone(), action))
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The same without `action` in the statement `sid`.
    pub(crate) fn without(&self, sid: &str, action: &str) -> Self {
        let mut statements = self.0.clone();
        for statement in &mut statements {
            if statement["Sid"] == sid {
                let kept = texts(&statement["Action"]).into_iter();
                let kept: Vec<String> = kept.filter(|one| one != action).collect();
                statement["Action"] = kept.into();
            }
        }
        Self(statements)
    }

    /// The first of `needs` that no statement allows.
    pub(crate) fn denied<'a>(&self, needs: &'a [Need]) -> Option<&'a Need> {
        let allows = |need: &Need| self.0.iter().any(|statement| covers(statement, need));
        needs.iter().find(|need| !allows(need))
    }
}

fn covers(statement: &Value, need: &Need) -> bool {
    let like = |part: &str, text: &str| {
        texts(&statement[part])
            .iter()
            .any(|pattern| is_like(pattern, text))
    };
    let conditions = statement["Condition"].as_object();
    let operators = conditions.into_iter().flatten();
    like("Action", &need.action)
        && like("Resource", &need.resource)
        && operators
            .flat_map(|(operator, keys)| {
                keys.as_object()
                    .into_iter()
                    .flatten()
                    .zip([operator].into_iter().cycle())
            })
            .all(|((key, wanted), operator)| holds(operator, need.context.get(key), &texts(wanted)))
}

/// Whether a condition holds of the values a key has in the context, if it is
/// there.
fn holds(operator: &str, values: Option<&Vec<String>>, wanted: &[String]) -> bool {
    let any_is = |value: &String| wanted.contains(value);
    let any_like = |value: &String| wanted.iter().any(|pattern| is_like(pattern, value));
    match operator {
        "StringEquals" => values.is_some_and(|values| values.iter().any(any_is)),
        "StringLike" => values.is_some_and(|values| values.iter().any(any_like)),
        "ForAllValues:StringEquals" => values.is_none_or(|values| values.iter().all(any_is)),
        "ForAllValues:StringLike" => values.is_none_or(|values| values.iter().all(any_like)),
        "Null" => wanted == [values.is_none().to_string()],
        other => panic!("{other} is not known here"),
    }
}

/// `*` is anything, `?` one letter.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            text.char_indices()
                .any(|(at, _)| is_like(rest, &text[at..]))
                || is_like(rest, "")
        }
        Some(letter) => {
            let mut letters = text.chars();
            let first = letters.next();
            first.is_some_and(|first| letter == '?' || letter == first)
                && is_like(&pattern[letter.len_utf8()..], letters.as_str())
        }
    }
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<String> {
    let one = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(values) => values.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(action: &str, resource: &str, context: &[(&str, &[&str])]) -> Need {
        let owned = |values: &[&str]| values.iter().map(|one| (*one).to_owned()).collect();
        Need {
            action: action.to_owned(),
            resource: resource.to_owned(),
            context: context
                .iter()
                .map(|(key, values)| ((*key).to_owned(), owned(values)))
                .collect(),
        }
    }

    #[test]
    fn a_call_is_allowed_as_iam_allows_it() {
        let policy = Policy::new(&json!({ "Statement": [
            { "Sid": "A", "Effect": "Allow", "Action": ["x:Get*"], "Resource": "*" },
            { "Sid": "B", "Effect": "Allow", "Action": "x:Put",
              "Resource": ["arn:1/*", "arn:2/b"],
              "Condition": {
                  "StringEquals": { "tag": ["p", "q"] },
                  "ForAllValues:StringLike": { "keys": "w:*" },
                  "Null": { "keys": "false" } } },
        ] }));
        let sound: &[(&str, &[&str])] = &[("tag", &["q"]), ("keys", &["w:a", "w:b"])];
        for (expected, need) in [
            (true, need("x:GetIt", "arn:3", &[])),
            (false, need("x:Ge", "arn:3", &[])),
            (true, need("x:Put", "arn:1/a/b", sound)),
            (true, need("x:Put", "arn:1/", sound)),
            (true, need("x:Put", "arn:2/b", sound)),
            (false, need("x:Put", "arn:2/bb", sound)),
            (false, need("x:Put", "arn:1/a", &[("keys", &["w:a"])])),
            (
                false,
                need("x:Put", "arn:1/a", &[("tag", &["r"]), ("keys", &["w:a"])]),
            ),
            (
                false,
                need(
                    "x:Put",
                    "arn:1/a",
                    &[("tag", &["p"]), ("keys", &["w:a", "v"])],
                ),
            ),
            (false, need("x:Put", "arn:1/a", &[("tag", &["p"])])),
        ] {
            let needs = [need];
            assert_eq!(policy.denied(&needs).is_none(), expected, "{needs:?}");
        }
        let less = policy.without("A", "x:Get*");
        assert!(less.denied(&[need("x:GetIt", "arn:3", &[])]).is_some());
    }
}
