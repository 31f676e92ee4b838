"""The word lists and sentence templates of the probe generator `quiver-probes-v1`.

Part of the sealed generator: any change of a list, a template or their order is a new generator id. A template is
filled by name: `{topic}` and the other names of `LISTS` draw one entry each, `{n}` a small number, `{passage}` a short
paragraph.
"""


def _entries(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for line in text.strip().splitlines() for entry in line.split("|"))


TOPICS = _entries(
    """
    how vaccines work|the water cycle|why the sky is blue|photosynthesis|inflation and interest rates|black holes
    the French Revolution|how a bill becomes a law|compound interest|the Roman Empire|plate tectonics|blockchain
    machine learning|how GPS works|the immune system|renewable energy|supply and demand|electric cars|the stock market
    jet lag|why we dream|how noise-cancelling headphones work|the Great Depression|game theory|the placebo effect
    ocean tides|how bread rises|credit scores|the Industrial Revolution|DNA|how search engines rank pages|minimalism
    antibiotics|public-key encryption|the Silk Road|how airplanes fly|coral reefs|stoicism|index funds|lightning
    the Renaissance|fermentation|solar panels|cognitive biases|the history of chess|volcanoes|remote work|sleep apnea
    how refrigerators work|the Cold War|bees and pollination|mortgage refinancing|the carbon cycle|imposter syndrome
    sourdough starters|earthquakes|how batteries store energy|jazz|migraine triggers|the Big Bang|composting|tariffs
    how the brain forms memories|the Olympic Games|tea ceremonies|microplastics|unemployment benefits|glaciers
    time zones|the history of coffee|caffeine|open-source licences|quantum computing|how elections are counted
    gluten intolerance|the Mediterranean diet|ancient Egypt|how 3D printing works|intermittent fasting|asthma
    the moon landing|rainbows|wildfires|hybrid cars|the printing press|how vinyl records work|house plants|monsoons
    """
)
ACTIVITIES = _entries(
    """
    learn the guitar|train for a half marathon|save money on groceries|prepare for a job interview|move to a new city
    start a vegetable garden|learn Spanish|plan a road trip|fix a leaking tap|adopt a rescue dog|write a novel
    sleep better|cut down on sugar|organise a small wedding|study for the bar exam|build a bookshelf|bake sourdough
    start a podcast|run a book club|paint a bedroom|negotiate a raise|pack for two weeks in Japan|teach kids chess
    keep houseplants alive|quit smoking|start a small online shop|repair a bicycle puncture|plan a birthday party
    do my taxes as a freelancer|get into photography|meal prep for the week|train a puppy|speak in public
    stay focused while studying|clean a cast iron pan|choose a laptop for college|travel with a toddler|brew beer
    learn to swim as an adult|volunteer abroad|declutter my garage|ride a motorbike|make friends in a new town
    improve my handwriting|prepare for a marathon in the heat|grow tomatoes on a balcony|set up a home office
    """
)
PEOPLE = _entries(
    """
    my landlord|my manager|a new client|my daughter's teacher|the customer service team|a former colleague|my professor
    the hiring manager|our neighbours|the HR department|my sister|a potential investor|the hotel|my gym|our supplier
    the local council|a recruiter|my team|the airline|a friend I have not seen in years|my dentist|the bank|our interns
    """
)
ERRANDS = _entries(
    """
    asking for a refund|moving our meeting to next week|saying thank you for the help|asking about the deposit
    declining an invitation|apologising for a late delivery|requesting two days off|following up on an application
    complaining about noise|confirming a booking|asking for a recommendation letter|announcing a price change
    cancelling a subscription|reporting a broken heater|inviting them to a dinner|explaining a missed deadline
    asking for feedback on a draft|introducing a new product|reminding them of an unpaid invoice|resigning politely
    """
)
CHARACTERS = _entries(
    """
    a retired pirate|a grumpy librarian|a talking cat|a detective in Venice|a lighthouse keeper|a robot learning to cook
    a Victorian ghost|two rival bakers|a young astronaut|a medieval blacksmith|a lost postcard|a clumsy wizard
    a night bus driver|a violin maker|a fox in the city|an old sea captain|a time traveller from 1920|a shy dragon
    a mountain guide|the last bookshop owner|a street musician|a beekeeper with a secret|a chess prodigy
    """
)
PLACES = _entries(
    """
    Lisbon|a rainy harbour|Kyoto in autumn|a train station at midnight|the Sahara|a small island|Brooklyn|the far north
    an abandoned theme park|Marrakech|a space station|the Scottish Highlands|a crowded market|Buenos Aires|the Alps
    a village by a lake|New Orleans|a snowed-in cabin|Istanbul|the bottom of the sea|a rooftop in Mumbai|Prague
    """
)
PRODUCTS = _entries(
    """
    a reusable coffee cup|a noise-cancelling headset|a subscription box for dog owners|a budgeting app|handmade candles
    a folding bicycle|a language learning app|a vegan protein bar|a smart water bottle|a standing desk|organic soap
    a board game about beavers|a camping stove|a password manager|a weighted blanket|a local bakery|a yoga studio
    """
)
LANGUAGES = ("Python", "JavaScript", "Java", "C", "Go", "Rust", "TypeScript", "C++", "Ruby", "Bash", "SQL", "PHP")
CODE_TASKS = _entries(
    """
    reverses a string|checks whether a number is prime|merges two sorted lists|counts the words in a text file
    finds duplicates in a list|computes the Fibonacci sequence|validates an email address|sorts a list of dictionaries
    removes vowels from a string|converts Celsius to Fahrenheit|reads a CSV file and prints the totals
    finds the longest common prefix|flattens a nested list|checks for balanced brackets|parses a date
    computes a moving average|generates a random password|rotates a matrix|implements binary search|counts inversions
    removes duplicates while keeping order|finds the two numbers that add up to a target|downloads a web page
    splits a list into chunks|checks whether two words are anagrams|renders a multiplication table|implements a queue
    converts a Roman numeral to an integer|computes the median of a list|implements a simple cache|writes a log file
    """
)
CODE_NOTIONS = _entries(
    """
    recursion|a hash map|the difference between a list and a tuple|async and await|a foreign key|a race condition
    big O notation|garbage collection|an abstract class|a closure|unit testing|a left join|dependency injection
    a linked list|memory leaks|an API rate limit|the event loop|pointers|a decorator|a regular expression|a mutex
    """
)
SNIPPETS = (
    "def total(xs):\n    t = 0\n    for x in xs:\n        t =+ x\n    return t",
    "for (let i = 0; i <= items.length; i++) {\n  console.log(items[i].name);\n}",
    "def add(item, box=[]):\n    box.append(item)\n    return box",
    "SELECT name, COUNT(*) FROM orders WHERE total > 100;",
    "while n != 1:\n    if n % 2 == 0: n = n / 2\n    n = 3 * n + 1",
    "func max(a []int) int {\n\tm := 0\n\tfor _, v := range a { if v > m { m = v } }\n\treturn m\n}",
    "if name == 'admin' or 'root':\n    allow()",
    "const data = fetch('/api/users');\nconsole.log(data.length);",
    "numbers = [1, 2, 3, 4]\nfor n in numbers:\n    if n % 2 == 0:\n        numbers.remove(n)",
    'String s = null;\nif (s.equals("yes")) {\n    start();\n}',
)
PASSAGES = (
    "The city council voted on Tuesday to close the old bridge for eight months. Traffic will be led "
    "through the port, and shop owners fear that they will lose customers.",
    "Our team shipped the new checkout page last week. Conversion went up by four percent, but refunds "
    "also rose, and support tickets about coupons doubled.",
    "Honey never really spoils. Its low water content and acidity keep bacteria away, which is why edible"
    " honey has been found in tombs that are thousands of years old.",
    "The flight was delayed by five hours and nobody at the desk could tell us why. In the end we got a "
    "voucher for a sandwich, and our luggage arrived two days later.",
    "Researchers followed 2,000 adults for ten years. Those who walked at least half an hour a day had "
    "fewer heart problems, even when they slept badly.",
    "I bought this vacuum cleaner in March. It is quiet and light, but the battery lasts only fifteen "
    "minutes, and the filter is hard to clean.",
    "The museum reopens in May with a new wing for modern sculpture. Entry is free on the first Sunday of"
    " each month, and guided tours start at noon.",
    "She left the village at dawn with one small suitcase. By the time the church bells rang, the train "
    "was already climbing into the hills.",
    "Remote employees report fewer interruptions but also feel less connected. Managers say that hiring "
    "is easier, while training new people takes longer.",
    "To reset the router, hold the button for ten seconds until the light turns orange. Wait two minutes,"
    " then connect with the password on the back.",
    "Sales of electric bikes grew for the sixth year in a row. Most buyers are over fifty, and many say "
    "the bike has replaced their second car.",
    "The recipe calls for two onions, a tin of tomatoes and a spoon of smoked paprika. Let it simmer "
    "slowly, and add the beans at the very end.",
    "hey, just a heads up that the meeting is moved to thursday bc of the holiday. pls bring the numbers "
    "from last month and dont forget the slides",
    "Due to unforeseen circumstances we are unable to process your request at this moment in time. You "
    "will be contacted by a member of our staff in due course.",
    "Octopuses have three hearts and blue blood. Two of the hearts pump blood through the gills, and the "
    "third stops beating while the animal swims.",
    "Interest rates stayed unchanged this month. The bank expects prices to rise more slowly next year, "
    "but warned that energy costs remain uncertain.",
)
TONES = (
    "more formal", "friendlier", "shorter", "more confident", "simpler", "more polite", "funnier", "more professional",
    "easier for a child to understand", "less dramatic", "more persuasive", "suitable for a newsletter",
)  # fmt: skip
TARGETS = ("French", "Spanish", "German", "Italian", "Portuguese", "Dutch", "Polish", "Swedish")
AUDIENCES = (
    "a ten year old", "a beginner", "my grandmother", "a high school class", "a busy executive", "a curious teenager",
    "someone with no background", "a medical student", "an engineer", "a new employee",
)  # fmt: skip
FORMS = (
    "a short poem",
    "a haiku",
    "the opening of a story",
    "a limerick",
    "a diary entry",
    "a short scene",
    "a letter",
)
GENRES = ("mystery", "science fiction", "comedy", "fantasy", "romance", "horror", "western", "fairy tale")

LISTS: dict[str, tuple[str, ...]] = {
    "topic": TOPICS,
    "other": TOPICS,
    "activity": ACTIVITIES,
    "person": PEOPLE,
    "errand": ERRANDS,
    "character": CHARACTERS,
    "place": PLACES,
    "product": PRODUCTS,
    "language": LANGUAGES,
    "code_task": CODE_TASKS,
    "notion": CODE_NOTIONS,
    "snippet": SNIPPETS,
    "passage": PASSAGES,
    "tone": TONES,
    "target": TARGETS,
    "audience": AUDIENCES,
    "form": FORMS,
    "genre": GENRES,
    "n": ("3", "4", "5", "6", "7", "10"),
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "ask": (
        "Can you explain {topic} to {audience}?",
        "What should I know about {topic}?",
        "Explain {topic} in simple terms.",
        "Which is better for a school project, {topic} or {other}?",
        "Give me {n} tips to {activity}.",
        "I want to {activity}. Where do I start?",
        "How do I {activity} without spending too much money?",
        "List {n} interesting facts about {topic}.",
        "Why does {topic} matter? Please answer in a few sentences.",
        "What are common mistakes when people try to {activity}?",
        "Is it true that {topic} is often misunderstood? What do people get wrong?",
        "Make a checklist: {activity}.",
        "I have one month to {activity}. Draft a weekly plan.",
        "what's the quickest way to understand {topic}?",
        "Can you recommend {n} good questions to ask an expert about {topic}?",
        "Qué debo saber sobre {topic}?",
    ),
    "write": (
        "Write a short email to {person} {errand}.",
        "Write {form} about {character} in {place}.",
        "Draft a polite message to {person}, {errand}. Keep it under 100 words.",
        "Write a product description for {product}.",
        "Come up with {n} slogans for {product}.",
        "Pretend you are {character}. Tell me about your day in {place}.",
        "Start a {genre} story with {character} arriving in {place}.",
        "Write a social media post announcing {product}.",
        "I need a {genre} plot set in {place}. Main character: {character}.",
        "Write a dialogue between {character} and {person} about {topic}.",
        "Write an introduction for a blog post about {topic}.",
        "help me write a text to {person}, i'm {errand}",
        "You are {character}. I walk up to you in {place} and ask for directions. What do you say?",
        "Write a toast for someone who managed to {activity}.",
        "Give {product} a catchy name and explain your choice.",
        "Écris {form} sur {place}.",
    ),
    "code": (
        "Write a {language} function that {code_task}.",
        "How do I write a program in {language} that {code_task}?",
        "Explain {notion} with an example in {language}.",
        "What is wrong with this code?\n\n{snippet}",
        "Fix the bug:\n```\n{snippet}\n```",
        "What does this do?\n\n{snippet}",
        "I'm new to {language}. Can you show me how to write something that {code_task}?",
        "When would I use {notion}?",
        "Write unit tests for a {language} function that {code_task}.",
        "Rewrite this so that it is easier to read:\n{snippet}",
        "Compare {language} with Python for a script that {code_task}.",
        "{language}: code that {code_task}, with comments please",
        "Give me an interview question about {notion} and a good answer.",
        "My {language} function {code_task} but it is slow. How can I make it faster?",
    ),
    "transform": (
        "Summarize this in one sentence: {passage}",
        "Make this {tone}: {passage}",
        "Translate into {target}: {passage}",
        "Rewrite the following text so that it is {tone}.\n\n{passage}",
        "What are the key points here?\n\n{passage}",
        "{passage}\n\nWrite a title for this text and explain why it fits.",
        "Turn this into bullet points:\n{passage}",
        "Continue this text: {passage}",
        "Is the tone of this text positive or negative, and why? \"{passage}\"",
        "Write a reply to this: {passage}",
        "Correct the grammar and explain what you changed: {passage}",
        "{passage}\n\nAsk me {n} questions about this text.",
        "tl;dr please: {passage}",
        "Explain the following to {audience}: {passage}",
    ),
}  # fmt: skip

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are a patient teacher.",
    "You are a friendly writing coach.",
    "Answer in plain English, without jargon.",
    "You are an expert. Be precise and say when you are not sure.",
    "You are a customer support agent for an online shop.",
    "Use short sentences.",
)
OPENINGS = ("Hi! ", "Hello, ", "Hey, ", "Quick question: ", "Please help. ", "Good morning. ", "ok so ")
CLOSINGS = (
    " Thanks!",
    " Thank you.",
    " Please keep it short.",
    " Please be specific.",
    " Any help is welcome.",
    " pls",
)
FIRST_TURNS = (
    ("Hi, can you help me with something?", "Of course! What do you need?"),
    ("Hello", "Hello! How can I help you today?"),
    ("Are you good at this kind of thing?", "I will do my best. What would you like to know?"),
    ("I have a few questions.", "Sure, go ahead and ask the first one."),
    ("good morning", "Good morning! What can I do for you?"),
    ("Thanks, that was useful.", "You're welcome! Is there anything else I can help you with?"),
)
