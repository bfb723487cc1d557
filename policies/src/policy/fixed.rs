//! `kind = "fixed"`: always the same number of instances.
//!
//! `wish = instances`. It reads nothing and never abstains, so beside other
//! policies it is a floor.
//!
//! | key | meaning |
//! |---|---|
//! | `instances` | the number; mandatory, 0 to [`INSTANCES_MAX`] |

use serde::{Deserialize, Serialize};

use super::{INSTANCES_MAX, Opinion};
use crate::fields::Fields;

/// Always the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// How many instances.
    pub instances: u32,
}

impl Fixed {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let what = "how many instances, such as 3";
        let instances = fields.required_within("instances", what, 0..=INSTANCES_MAX)?;
        Some(Self { instances })
    }

    pub(super) fn opinion(self) -> Opinion {
        Opinion::instances(self.instances, format!("fixed at {}", self.instances))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::policy::testing::table;
    use expect_test::expect;

    #[test]
    fn is_the_same_whatever_is_there() {
        let rule = Fixed { instances: 7 };
        table(
            &Policy::Fixed(rule),
            &[(0, 0, &[]), (7, 7, &[]), (3, 9, &[])],
            &expect![[r#"
                0/0 -> 7  fixed at 7
                7/7 -> 7  fixed at 7
                3/9 -> 7  fixed at 7
            "#]],
        );
    }
}
