"""One modality alone: what a fusion is measured against."""
