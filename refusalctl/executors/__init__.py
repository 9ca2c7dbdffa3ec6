"""Where goals are computed beside this process. Recipes know nothing of it."""
