"""The methods that come with FusionKit, one package each."""
