use service_mesh::with_retry;

trait Client {
    #[with_retry]
    fn fetch(&self) -> Result<(), std::io::Error>;
}

fn main() {}
