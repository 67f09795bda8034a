"""The report: tables, figures and one page about the compared variants, made from the results of other stages."""
