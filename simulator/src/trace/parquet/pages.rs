//! The pages of a column, in an order that the library expects: it ends the
//! program over others.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

/// Gives the pages of `inner`, and an error in place of one whose values are
/// numbers in a dictionary that has not come.
pub(super) struct Ordered {
    inner: Box<dyn PageReader>,
    has_dictionary: bool,
}

impl Ordered {
    pub(super) fn new(inner: Box<dyn PageReader>) -> Self {
        Self {
            inner,
            has_dictionary: false,
        }
    }
}

impl Iterator for Ordered {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Ordered {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        let encoding = match &page {
            Some(Page::DictionaryPage { .. }) => {
                self.has_dictionary = true;
                None
            }
            Some(Page::DataPage { encoding, .. } | Page::DataPageV2 { encoding, .. }) => {
                Some(*encoding)
            }
            None => None,
        };
        let numbered = matches!(
            encoding,
            Some(Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
        );
        if numbered && !self.has_dictionary {
            let told = "a page refers to a dictionary that is not there";
            return Err(ParquetError::General(told.to_owned()));
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}
