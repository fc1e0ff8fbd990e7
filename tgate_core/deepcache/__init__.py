"""DeepCache (arXiv 2312.00858): between full steps only the outer blocks of a UNet run, on a kept deep feature."""
