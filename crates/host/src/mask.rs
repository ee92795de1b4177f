//! Hides credentials in text that is shown or stored.

/// The text with the user part of every URL (`scheme://user:password@host`) replaced by `***`.
pub fn mask_credentials(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || "/?#\"'`<>|".contains(c))
            .unwrap_or(after.len());
        let authority = &after[..end];
        match authority.rfind('@') {
            Some(user) => {
                masked.push_str("***");
                masked.push_str(&authority[user..]);
            }
            None => masked.push_str(authority),
        }
        rest = &after[end..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn users_and_passwords_of_urls_are_hidden() {
        assert_eq!(
            mask_credentials("get https://bob:s3cret@host.example/simple/ and http://t@h"),
            "get https://***@host.example/simple/ and http://***@h"
        );
        assert_eq!(
            mask_credentials("`https://a:b@h/x@y`"),
            "`https://***@h/x@y`"
        );
        assert_eq!(
            mask_credentials("mail a@b.c https://h/p"),
            "mail a@b.c https://h/p"
        );
    }

    proptest! {
        #[test]
        fn no_password_survives(before in "[ -~]{0,20}", password in "[0-9]{8}", after in "[ -~]{0,20}") {
            let text = format!("{before} https://user:{password}@index.example/{after}");
            prop_assume!(!before.contains(&password) && !after.contains(&password));
            prop_assert!(!mask_credentials(&text).contains(&password));
        }

        #[test]
        fn text_without_urls_is_unchanged(text in "[ -.0-~]{0,60}") {
            prop_assert_eq!(mask_credentials(&text), text);
        }
    }
}
