//! The policy of a command line: `NAME=HOST:PORT,HOST:PORT`, for the first ten seconds.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv6Addr;

use service_mesh::{ConfigError, ListenAddress, is_host_name};

/// Writes the policy file that the command line stands for: a listener for each address, pages at `admin`, a service for
/// each `NAME=HOST:PORT[,HOST:PORT…]`. With one service everything goes to it. With several, a request goes to the one that
/// its path names first: `/users/7` to `users`, as `/users/7`.
///
/// # Errors
/// The word that is no service, and how one is written.
pub fn quick_policy(listen: &[String], admin: Option<&str>, services: &[String]) -> Result<String, String> {
    let mut text = String::new();
    for (number, word) in (1..).zip(listen) {
        let _ = writeln!(text, "[listeners.listen-{number}]\naddress = {}", address("--listen", word)?);
    }
    if let Some(word) = admin {
        let _ = writeln!(text, "[admin]\naddress = {}", address("--admin", word)?);
    }
    let mut names = BTreeSet::new();
    for word in services {
        let wrong = || format!("{word:?} is no service; write NAME=HOST:PORT,HOST:PORT");
        let (name, instances) = word.split_once('=').ok_or_else(wrong)?;
        if !names.insert(name) {
            return Err(format!("{name} is there twice; its instances belong together: {name}=HOST:PORT,HOST:PORT"));
        }
        let _ = writeln!(text, "[services.{}]\ninstances = [", quoted(name));
        let mut addresses = BTreeSet::new();
        for address in instances.split(',') {
            let (host, port) = address.trim().rsplit_once(':').ok_or_else(wrong)?;
            let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                Some(address) => address.parse::<Ipv6Addr>().ok().map(|_| address),
                None => is_host_name(host).then_some(host),
            };
            let (host, port) = (host.ok_or_else(wrong)?, port.parse::<u16>().map_err(|_| wrong())?);
            if name.is_empty() {
                return Err(wrong());
            }
            if !addresses.insert(address.trim()) {
                return Err(format!("{name} has the instance {} twice", address.trim()));
            }
            let id = quoted(address.trim());
            let _ = writeln!(text, "    {{ id = {id}, host = {}, port = {port} }},", quoted(host));
        }
        let prefix = if services.len() == 1 { String::from("/") } else { format!("/{name}") };
        let _ = writeln!(text, "]\n[[routes]]\nservice = {}\npath_prefix = {}", quoted(name), quoted(&prefix));
    }
    Ok(text)
}

/// The address that this flag was given, quoted.
fn address(flag: &str, word: &str) -> Result<String, String> {
    let place: Result<ListenAddress, ConfigError> = word.parse();
    let place = place.map_err(|_| format!("{flag} {word} is no address; allowed: {}", ListenAddress::ALLOWED))?;
    Ok(quoted(&place.to_string()))
}

/// A TOML string. JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(words: &[&str]) -> Result<String, String> {
        quick_policy(&[], None, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_a_policy() {
        let text = services(&["api=127.0.0.1:9001,[::1]:9002", "web=localhost:80"]).unwrap();
        let policy = service_mesh::read_policy_file(&text).unwrap();
        let addresses = policy.services["api"].instances.iter().map(service_mesh::ServiceInstance::address);
        assert!(addresses.eq(["127.0.0.1:9001", "[::1]:9002"]));
        assert_eq!(policy.routes[1].path_prefix, "/web");
    }

    #[test]
    fn what_is_there_twice_is_told() {
        assert_eq!(services(&["api=a:1,b:1, a:1"]).unwrap_err(), "api has the instance a:1 twice");
        assert!(services(&["api=a:1", "api=b:1"]).unwrap_err().starts_with("api is there twice"));
    }

    #[test]
    fn an_address_that_is_none_is_told_with_its_flag() {
        let wrong = |listen: &str, admin| quick_policy(&[listen.to_owned()], admin, &[]).unwrap_err();
        assert!(wrong("localhost:80", None).starts_with("--listen localhost:80 is no address; allowed: an IP address"));
        assert!(wrong("127.0.0.1:80", Some("9000")).starts_with("--admin 9000 is no address"));
    }

    #[test]
    fn a_word_that_is_no_service_is_told() {
        let words = ["api", "api=", "=127.0.0.1:80", "api=127.0.0.1", "api=127.0.0.1:http", "api=:80"];
        let hosts = ["api=http://127.0.0.1:80", "api=::1:80", "api=[::1:80", "api=[a]:80", "api=a b:80", "api=a/b:80"];
        for word in words.into_iter().chain(hosts) {
            assert!(services(&[word]).unwrap_err().contains("NAME=HOST:PORT"), "{word}");
        }
    }
}
