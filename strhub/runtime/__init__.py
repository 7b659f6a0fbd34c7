"""Reading in other people's programs: a network, trained or exported, and pictures of any kind; torch is optional."""
