"""The explorer: one page that computes optima in the browser, behind `allmodes explore`."""
