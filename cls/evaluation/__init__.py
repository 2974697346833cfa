"""How well images are classified: by data set, by domain, by class, under shifted colours."""
