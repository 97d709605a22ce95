// spanscore
