"""The report: it reads finished artifacts and turns them into a page, figures and tables."""
